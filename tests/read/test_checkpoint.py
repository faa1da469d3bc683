"""Folders to models and back: nothing is guessed, nothing is left out."""

import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from workers.read.checkpoint import load_model, save_model
from workers.read.engine import ReadEngine
from workers.read.errors import CheckpointError
from workers.read.identity import fingerprint
from workers.read.inspection import inspect_folder
from workers.read.model import ReadModel

NORM = "model.norm.weight"


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint that a test may break."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


def edit(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = {key: value.clone() for key, value in load_file(folder / "model.safetensors").items()}
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def to_shards(folder: Path) -> tuple[Path, Path]:
    """Rewrite the weights as two ``.bin`` shards with an index, as the releases are."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
    keys = sorted(tensors)
    halves = (keys[::2], keys[1::2])
    for name, half in zip(names, halves, strict=True):
        torch.save({key: tensors[key] for key in half}, folder / name)
    places = {key: name for name, half in zip(names, halves, strict=True) for key in half}
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    return folder / names[0], folder / names[1]


def assert_same(one: ReadModel, other: ReadModel) -> None:
    weights, others = one.state_dict(), other.state_dict()
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[key], others[key]) for key in weights)
    assert (one.config, one.settings) == (other.config, other.settings)


def test_saving_and_loading_keeps_every_bit(model: ReadModel, tmp_path: Path) -> None:
    save_model(model, tmp_path / "again")
    assert_same(load_model(tmp_path / "again"), model)
    stored = load_file(tmp_path / "again" / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("architecture", "family"), [("SESAMEForCausalLM", "sesame"), ("LISAForCausalLM", "lisa")]
)
def test_other_families_load_and_take_points_when_asked(
    folder: Path, architecture: str, family: str
) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = [architecture]
    (folder / "config.json").write_text(json.dumps(config))
    picture = np.random.default_rng(5).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    for sasp, points in ((None, 0), ({}, 16), ({"num_points": 5}, 5)):
        asked = {"vision_tower": "clip", "sasp": sasp, "max_new_tokens": 8}
        (folder / "readloop.json").write_text(json.dumps(asked))
        engine = ReadEngine.load(folder)
        assert engine.model.settings.family == family
        (answer,) = engine.predict(picture, ["the road"])
        assert len(answer.segments[0].points_xy) == points


def test_shards_load_as_one_file_does(model: ReadModel, folder: Path) -> None:
    to_shards(folder)
    assert_same(load_model(folder), model)


def test_a_bin_file_is_mapped_anew_after_so_many_bytes(
    model: ReadModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 100_000
    size = sum(path.stat().st_size for path in to_shards(folder))
    opened: list[str] = []

    def counted(*arguments: object, map_location: str, **options: object) -> object:
        opened.append(map_location)
        return load(*arguments, map_location=map_location, **options)

    load = torch.load
    monkeypatch.setattr(torch, "load", counted)
    monkeypatch.setattr("workers.read.weights.MAPPED_BYTES", most)
    assert_same(load_model(folder), model)
    assert size / most / 3 < opened.count("cpu") <= size / most + 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda weights: weights.pop(NORM), f"1 missing: {NORM}"),
        (lambda weights: weights.update(extra=torch.zeros(1)), "1 unexpected: extra"),
        (
            lambda weights: weights.update({NORM: torch.zeros(5)}),
            rf"{NORM} \(found \(5,\), expected \(64,\)\)",
        ),
        (lambda weights: weights[NORM].fill_(float("nan")), f"{NORM} holds NaN or infinite"),
        (lambda weights: weights[NORM][3:4].fill_(float("-inf")), f"{NORM} holds NaN or infinite"),
        (
            lambda weights: weights.update({NORM: torch.ones(64, dtype=torch.int64)}),
            f"{NORM} holds torch.int64; expected floats",
        ),
        (
            lambda weights: weights.pop("model.visual_model.image_encoder.pos_embed"),
            "model.visual_model.image_encoder.pos_embed",
        ),
    ],
)
def test_a_wrong_key_or_value_is_named(
    folder: Path, change: Callable[[dict[str, Tensor]], object], told: str
) -> None:
    edit(folder, change)
    with pytest.raises(CheckpointError, match=told):
        load_model(folder)


def test_stored_rotary_frequencies_are_ignored(model: ReadModel, folder: Path) -> None:
    key = "model.layers.0.self_attn.rotary_emb.inv_freq"
    edit(folder, lambda weights: weights.update({key: torch.zeros(8, dtype=torch.bfloat16)}))
    assert_same(load_model(folder), model)


def test_bfloat16_keeps_frequencies_and_prompts_exact(tiny_folder: Path) -> None:
    model = load_model(tiny_folder, dtype=torch.bfloat16)
    assert model.llama.model.rotary_emb.inv_freq.dtype == torch.float32
    assert model.sam.prompt_encoder.no_mask_embed.weight.dtype == torch.float32
    assert model.sam.image_encoder.pos_embed.dtype == torch.bfloat16


def test_a_missing_shard_is_named(folder: Path) -> None:
    to_shards(folder)[1].unlink()
    with pytest.raises(CheckpointError, match=r"00002-of-00002\.bin: missing"):
        load_model(folder)


@pytest.mark.parametrize("place", ["../pytorch_model.bin", "/etc/passwd", "..", "a/b.bin"])
def test_an_index_leads_nowhere_else(folder: Path, place: str) -> None:
    to_shards(folder)
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {NORM: place}}))
    with pytest.raises(CheckpointError, match="outside of the folder"):
        load_model(folder)


def test_a_key_that_two_shards_hold_is_named(folder: Path) -> None:
    first, second = to_shards(folder)
    torch.save(torch.load(first) | torch.load(second), second)
    with pytest.raises(CheckpointError, match=r"00002-of-00002\.bin: holds .* another file"):
        load_model(folder)


@pytest.mark.parametrize("sharded", [False, True])
def test_a_truncated_file_is_named(folder: Path, sharded: bool) -> None:
    path = to_shards(folder)[0] if sharded else folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=path.name):
        load_model(folder)


class Payload:
    """What a pickle with code in it looks like."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return print, ("ran",)


def test_a_pickle_with_code_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = to_shards(folder)
    torch.save({NORM: Payload()}, first)
    with pytest.raises(CheckpointError, match=first.name):
        load_model(folder)
    second.write_bytes(pickle.dumps({NORM: Payload()}))
    first.unlink()
    second.rename(first)
    with pytest.raises(CheckpointError, match=r"\.bin"):
        load_model(folder)
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02K\x05Q.",  # a tensor by a number instead of a description
        b"\x80\x02X\x10",  # ends within a length
    ],
)
def test_a_pickle_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    first, _ = to_shards(folder)
    with zipfile.ZipFile(first) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(first, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, content if name.endswith("/data.pkl") else data)
    with pytest.raises(CheckpointError, match=first.name):
        load_model(folder)


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (torch.ones(64, dtype=torch.int8), rf"{NORM} is a tensor of torch\.int8"),
        (torch.ones(64).to(torch.float8_e4m3fn), rf"{NORM} is a tensor of torch\.float8"),
        (torch.ones(64).to_sparse(), "cannot be read as plain tensors"),
        (torch.ones(64, device="meta"), f"{NORM} holds no numbers"),
    ],
    ids=["int8", "float8", "sparse", "meta"],
)
def test_a_tensor_of_another_kind_is_named(folder: Path, wrong: Tensor, told: str) -> None:
    first, _ = to_shards(folder)
    torch.save(torch.load(first) | {NORM: wrong}, first)
    with pytest.raises(CheckpointError, match=rf"{first.name}: {told}"):
        load_model(folder)


def test_weights_beyond_a_precision_are_named(folder: Path) -> None:
    edit(folder, lambda weights: weights[NORM][3:4].fill_(-1e5))
    load_model(folder, dtype=torch.bfloat16)
    with pytest.raises(CheckpointError, match=rf"{NORM} holds 9\.98e\+04, torch\.float16 ends at"):
        load_model(folder, dtype=torch.float16)


@pytest.mark.parametrize(
    ("key", "value"),
    [("hidden_size", None), ("vision_tower", 3), ("num_attention_heads", 5), ("architectures", 1)],
)
def test_a_wrong_configuration_is_named_by_all_who_read_it(
    folder: Path, key: str, value: object
) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    own = {} if key == "vision_tower" else {"vision_tower": "clip"}
    (folder / "readloop.json").write_text(json.dumps(own))
    for read in (load_model, inspect_folder):
        with pytest.raises(CheckpointError, match=key):
            read(folder)


@pytest.mark.parametrize("part", ["model.visual_model.", "model.text_hidden_fcs."])
def test_other_kinds_of_llava_are_refused(folder: Path, part: str) -> None:
    def without(weights: dict[str, Tensor]) -> None:
        for key in [key for key in weights if key.startswith(part)]:
            del weights[key]

    edit(folder, without)
    with pytest.raises(CheckpointError, match="LISA v0"):
        load_model(folder)


def test_a_full_clip_model_serves_as_tower(model: ReadModel, folder: Path) -> None:
    tower = folder / "clip"
    weights = load_file(tower / "model.safetensors")
    unused = {"logit_scale": torch.ones(()), "text_model.final_layer_norm.bias": torch.ones(3)}
    places = {"vision_model.embeddings.position_ids": torch.arange(65)[None]}
    torch.save(weights | unused | places, tower / "pytorch_model.bin")
    (tower / "model.safetensors").unlink()
    nested = {"vision_config": json.loads((tower / "config.json").read_text())}
    (tower / "config.json").write_text(json.dumps(nested))
    assert_same(load_model(folder, clip=tower), model)


def test_a_missing_tower_says_where_it_was_sought(folder: Path) -> None:
    shutil.rmtree(folder / "clip")
    with pytest.raises(CheckpointError, match=r"clip: no such folder"):
        load_model(folder)


def test_json_that_never_ends_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read"):
        load_model(folder)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_model(tmp_path)


def test_the_fingerprint_follows_weights_not_settings(folder: Path, tiny_folder: Path) -> None:
    before = fingerprint(folder)
    assert before == fingerprint(tiny_folder)
    (folder / "readloop.json").write_text('{"vision_tower": "clip", "max_new_tokens": 9}')
    assert fingerprint(folder) == before
    edit(folder, lambda weights: weights[NORM].add_(1))
    assert fingerprint(folder) != before
