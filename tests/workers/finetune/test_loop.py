"""The training loop: it learns, resumes bit for bit after a kill, and stores what it learned."""

import json
import math
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.errors import ConfigError, InputError, PictureError
from pipeline.storage.store import Store
from pipeline.storage.training_sets import Manifest, TrainingSets
from workers.finetune.building import build_model
from workers.finetune.loop import read_result, train
from workers.finetune.parallel import World
from workers.finetune.records import FinetuneJob, StepReport
from workers.finetune.settings import TrainSettings
from workers.settings import LimitSettings

Jobs = Callable[..., FinetuneJob]
READS = {
    "parts": [*TrainSettings().parts, "image_encoder"],
    "readouts": {"images": 2, "alone": 1.2},
}
KILL = Path(__file__).with_name("kill.py")


def weights(store: Store, version: str) -> dict[str, torch.Tensor]:
    assert store.address.local
    return load_file(store.address.local / "models" / version / "model.safetensors")


def test_a_job_learns_and_stores_a_checkpoint_that_is_what_it_learned(
    store: Store, job: Jobs, tiny: Path
) -> None:
    reports: list[StepReport] = []
    train(job(steps=6, images_per_step=4, rate=2e-3), World(), reports.append)
    result = read_result(store, "training/one")
    assert result
    assert (result.steps, result.images, len(reports)) == (6, 24, 6)
    assert result.merge.weight_error <= 1 / 256
    assert result.merge.merged_loss < 1e-4
    assert result.merge.stored_loss < 0.05
    before, after = load_file(tiny / "model.safetensors"), weights(store, result.version)
    changed = {key for key, value in after.items() if not torch.equal(value, before[key])}
    parts = ("q_proj", "v_proj", "lm_head", "embed_tokens", "mask_decoder", "text_hidden_fcs")
    assert all(any(part in key for part in parts) for key in changed)
    assert all(any(part in key for key in changed) for part in parts)
    assert not list(store.list("training/one/states"))
    lines = store.get("training/one/curve.jsonl").decode().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(6))
    assert list(store.list("training/one/tensorboard"))

    train(job(steps=6, images_per_step=4, rate=2e-3), World(), reports.append)
    assert len(reports) == 6


def test_a_killed_job_ends_with_the_weights_of_an_undisturbed_one(
    store: Store, job: Jobs, tmp_path: Path
) -> None:
    train(job("training/calm", **READS), World(), lambda _: None)
    (tmp_path / "job").write_bytes(pickle.dumps(job("training/killed", **READS)))
    killed = subprocess.run([sys.executable, str(KILL), str(tmp_path / "job"), "2"], check=False)
    assert killed.returncode == -signal.SIGKILL
    states = list(store.list("training/killed/states"))
    assert [Path(info.uri).name for info in states] == ["00000001.pt", "00000002.pt"]

    steps: list[int] = []
    train(job("training/killed", **READS), World(), lambda report: steps.append(report.step))
    assert steps == [2, 3, 4, 5, 6]
    calm, resumed = (read_result(store, f"training/{name}") for name in ("calm", "killed"))
    assert calm
    assert resumed
    assert resumed.version == calm.version
    assert (resumed.steps, resumed.rows, resumed.loss) == (calm.steps, calm.rows, calm.loss)
    curves = [
        [json.loads(line)["loss"] for line in store.get(path).decode().splitlines()]
        for path in ("training/calm/curve.jsonl", "training/killed/curve.jsonl")
    ]
    assert curves[0] == curves[1]
    assert len(curves[0]) == 7


def test_all_of_a_model_may_learn(store: Store, job: Jobs, tiny: Path) -> None:
    train(job(steps=1, parts="all", images_per_step=1), World(), lambda _: None)
    result = read_result(store, "training/one")
    assert result
    before, after = load_file(tiny / "model.safetensors"), weights(store, result.version)
    changed = {key.split(".")[1] for key, value in after.items() if (value != before[key]).any()}
    assert changed >= {"layers", "embed_tokens", "mm_projector", "text_hidden_fcs", "visual_model"}


def reported(job: FinetuneJob) -> list[StepReport]:
    """Train, and return what was told of each step."""
    reports: list[StepReport] = []
    train(job, World(), reports.append)
    return reports


def test_states_that_are_computed_again_change_nothing(
    job: Jobs, settings: Callable[..., TrainSettings], tiny: Path
) -> None:
    saving = build_model(tiny, settings(gradient_checkpointing=True), "cpu")
    assert saving.llama.is_activation_checkpointing
    plain = reported(job("training/plain", steps=2))
    saved = reported(job("training/saved", steps=2, gradient_checkpointing=True))
    for one, other in zip(plain, saved, strict=True):
        assert (other.loss, other.norm) == pytest.approx((one.loss, one.norm), rel=1e-4)


def test_what_is_frozen_may_be_bfloat16(
    store: Store, job: Jobs, settings: Callable[..., TrainSettings], tiny: Path
) -> None:
    half = build_model(tiny, settings(precision="bfloat16"), "cpu").llama
    kinds = {(weight.requires_grad, weight.dtype) for weight in half.parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}
    exact = reported(job("training/exact", steps=2))
    rounded = reported(job("training/half", steps=2, precision="bfloat16"))
    assert [one.loss for one in rounded] == pytest.approx([one.loss for one in exact], rel=0.05)
    result = read_result(store, "training/half")
    assert result
    assert result.merge.weight_error <= 1 / 256
    assert result.merge.merged_loss < 1e-4


@pytest.mark.parametrize("parts", [["projector"], ["clip"], ["clip", "projector"], ["llama"]])
def test_any_part_learns_beside_frozen_bfloat16(job: Jobs, parts: list[str]) -> None:
    (step,) = reported(job(steps=1, precision="bfloat16", parts=parts))
    assert math.isfinite(step.loss)
    assert step.norm > 0


def test_corrections_that_cannot_be_asked_are_counted(
    store: Store, frozen: Manifest, job: Jobs
) -> None:
    examples = TrainingSets(store).examples(frozen)
    lengths = sorted(len(one.query) for one in examples if one.split == "train")
    bound = lengths[len(lengths) // 2]
    limits = LimitSettings(query_characters=bound)
    train(replace(job(steps=1), limits=limits), World(), lambda _: None)
    result = read_result(store, "training/one")
    assert result
    assert result.refused == sum(length > bound for length in lengths) > 0


def test_states_that_a_kill_left_behind_a_result_are_deleted(store: Store, job: Jobs) -> None:
    train(job(steps=2), World(), lambda _: None)
    store.put("training/one/states/00000001.pt", b"left")
    train(job(steps=2), World(), lambda _: None)
    assert not list(store.list("training/one/states"))


def test_a_curve_misses_no_step_that_a_state_is_behind_of(
    store: Store, job: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr("workers.finetune.loop.Curves.save", killed)
        with pytest.raises(RuntimeError, match="killed"):
            train(job(steps=3), World(), lambda _: None)
    train(job(steps=3), World(), lambda _: None)
    lines = store.get("training/one/curve.jsonl").decode().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2]


def test_a_loss_that_is_no_number_names_the_knob(job: Jobs) -> None:
    with pytest.raises(ConfigError, match=r"finetune\.train\.rate"):
        train(job(losses={"ce": 1e38, "bce": 1e38, "dice": 1e38}, steps=1), World(), lambda _: None)


def test_a_picture_of_another_size_is_named(
    store: Store, job: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del store, tmp_path
    monkeypatch.setattr(
        "workers.finetune.loading.decode", lambda *_: torch.zeros((9, 9, 3)).byte().numpy()
    )
    with pytest.raises(InputError, match=r"photos/00\d\.png: correction .* has a mask of"):
        train(job(scenes_share=0, dialogue_share=0), World(), lambda _: None)


def touch(path: Path) -> None:
    os.utime(path, (1, 1))


@pytest.mark.parametrize("change", [Path.unlink, touch])
def test_a_picture_that_is_gone_or_touched_is_named(
    job: Jobs, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    described = job(scenes_share=0, dialogue_share=0)
    for path in (tmp_path / "photos").iterdir():
        change(path)
    with pytest.raises(PictureError, match=r"photos/00\d\.png: is gone, or not .* --fresh"):
        train(described, World(), lambda _: None)
