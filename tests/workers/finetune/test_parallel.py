"""Two workers do what one does: the same losses step by step, and nearly the same weights."""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from pipeline.storage.store import Store
from workers.finetune.loop import read_result, train
from workers.finetune.parallel import World
from workers.finetune.records import FinetuneJob
from workers.finetune.settings import TrainSettings

Jobs = Callable[..., FinetuneJob]
KEYS = ("ce", "bce", "dice", "readout", "norm")
GROUP = Path(__file__).with_name("group.py")
ALIKE = {
    "steps": 3,
    "images_per_step": 4,
    "images_at_once": 1,
    "lora": {"dropout": 0.0},
    "parts": [*TrainSettings().parts, "image_encoder"],
    "readouts": {"images": 2},
}


def losses(store: Store, name: str) -> list[list[float]]:
    lines = store.get(f"training/{name}/curve.jsonl").decode().splitlines()
    return [[json.loads(line)[key] for key in KEYS] for line in lines]


TALKS = {**ALIKE, "steps": 4, "images_per_step": 2, "dialogue_share": 0.5, "readouts": None}
"""Half of the pictures are talked about only, so a worker often has no mask while the other has."""


def two_workers(folder: Path, *jobs: FinetuneJob) -> None:
    """Let two workers do jobs, one after the other."""
    paths = []
    for number, one in enumerate(jobs):
        path = folder / str(number)
        path.write_bytes(pickle.dumps(one))
        paths.append(str(path))
    group = [
        subprocess.Popen([sys.executable, str(GROUP), str(rank), str(folder / "meeting"), *paths])
        for rank in range(2)
    ]
    try:
        assert [worker.wait(timeout=400) for worker in group] == [0, 0]
    finally:
        for worker in group:
            worker.kill()


def test_shards_are_exchanged_also_where_a_worker_has_no_mask(
    store: Store, job: Jobs, tmp_path: Path
) -> None:
    train(job("training/one", **TALKS), World(), lambda _: None)
    exact = job("training/exact", workers=2, strategy="fsdp", **TALKS)
    half = job("training/half", workers=2, strategy="fsdp", precision="bfloat16", **TALKS)
    two_workers(tmp_path, exact, half)
    for ours, rounded, theirs in zip(
        *(losses(store, name) for name in ("exact", "half", "one")), strict=True
    ):
        assert ours[:3] == pytest.approx(theirs[:3], rel=1e-2)
        assert rounded[:3] == pytest.approx(theirs[:3], rel=0.1, abs=0.05)


def test_two_workers_equal_one_with_copies_and_with_shards(
    store: Store, job: Jobs, tmp_path: Path
) -> None:
    train(job("training/one", **ALIKE), World(), lambda _: None)
    jobs = [
        job(f"training/{strategy}", workers=2, strategy=strategy, **ALIKE)
        for strategy in ("ddp", "fsdp")
    ]
    two_workers(tmp_path, *jobs)
    one = read_result(store, "training/one")
    assert one
    assert store.address.local
    models = store.address.local / "models"
    alone = load_file(models / one.version / "model.safetensors")
    for strategy in ("ddp", "fsdp"):
        for ours, theirs in zip(losses(store, strategy), losses(store, "one"), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-3)
        result = read_result(store, f"training/{strategy}")
        assert result
        assert (result.images, result.rows) == (one.images, one.rows)
        together = load_file(models / result.version / "model.safetensors")
        for key, value in alone.items():
            difference = (together[key].float() - value.float()).abs()
            assert float(difference.max()) <= 4e-3, key
            assert float(difference.mean()) <= 1e-5, key
