"""Checkpoints described without loading: the published key tables, and every wrong key."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from workers.read.errors import CheckpointError
from workers.read.inspection import count_parameters, expected_headers, inspect_folder
from workers.read.layout import planned_config

NORM = "model.norm.weight"
LLAVA_7B = {
    "architectures": ["READForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-05,
    "vocab_size": 32003,
    "mm_projector_type": "mlp2x_gelu",
    "mm_hidden_size": 1024,
    "vision_tower": "openai/clip-vit-large-patch14-336",
}
LLAVA_13B = LLAVA_7B | {
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
    "num_key_value_heads": 40,
}


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint that a test may break."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub cannot be reached and nothing of it is cached."""
    monkeypatch.setattr("workers.read.inspection.sketch_from_hub", _offline)


def _offline(name: str, *_: object) -> str:
    raise OSError(f"{name}: offline")


@pytest.mark.parametrize(
    ("llava", "keys", "language", "hidden"),
    [(LLAVA_7B, 925, 6_738_440_192, 4096), (LLAVA_13B, 1005, 13_015_895_040, 5120)],
)
def test_published_layouts_have_exactly_their_keys(
    llava: dict, keys: int, language: int, hidden: int
) -> None:
    expected, tower = expected_headers(planned_config(llava, {}), frequencies=True)
    assert len(expected) == keys
    assert sum("image_encoder." in key for key in expected) == 457
    assert len(tower) == 391
    assert {
        key: expected[key].shape for key in ("lm_head.weight", "model.mm_projector.0.bias")
    } == {
        "lm_head.weight": (32003, hidden),
        "model.mm_projector.0.bias": (hidden,),
    }
    counts = count_parameters({k: v for k, v in expected.items() if "inv_freq" not in k} | tower)
    assert counts["language_model"] == language
    assert counts["projector"] == (1024 + 1) * hidden + (hidden + 1) * hidden
    assert counts["query_head"] == (hidden + 1) * hidden + (hidden + 1) * 256
    assert counts["sam_image_encoder"] == 637_026_048
    assert counts["sam_mask_decoder"] == 4_058_340
    assert counts["vision_tower"] == 303_507_456


def test_a_whole_checkpoint_is_told_by_its_headers(tiny_folder: Path) -> None:
    found = inspect_folder(tiny_folder)
    assert found.ok
    assert found.settings.family == "read"
    assert found.special_ids == {
        "seg": 120, "im_start": 121, "im_end": 122, "bos": 1, "eos": 2, "unk": 0, "pad": 0
    }  # fmt: skip
    assert (found.keys, found.ignored, found.dtypes) == (found.expected_keys, 0, {"bfloat16": 203})
    assert found.tower == str(tiny_folder / "clip")
    json.dumps(found.to_json())


def test_every_wrong_key_is_listed(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    tower = load_file(folder / "clip" / "model.safetensors")
    del weights["lm_head.weight"], tower["vision_model.post_layernorm.bias"]
    weights |= {NORM: torch.zeros(5), "a.b": torch.zeros(1), "c.d": torch.zeros(1)}
    save_file(weights, folder / "model.safetensors")
    save_file(tower, folder / "clip" / "model.safetensors")
    told = inspect_folder(folder).to_json()
    assert not told["ok"]
    assert told["missing"] == ["lm_head.weight", "vision_model.post_layernorm.bias"]
    assert told["unexpected"] == ["a.b", "c.d"]
    assert told["misshapen"] == [{"key": NORM, "found": [5], "expected": [64]}]


@pytest.mark.usefixtures("no_hub")
def test_configurations_alone_tell_what_is_needed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAVA_7B))
    found = inspect_folder(tmp_path)
    assert (found.keys, found.expected_keys, len(found.differences.missing)) == (0, 893, 893)
    assert found.parameters["total"] == 7_418_340_912
    assert "readloop.json" in str(found.tower_problem)


@pytest.mark.usefixtures("no_hub")
def test_lisas_tower_is_known_too(tmp_path: Path) -> None:
    lisa = {"architectures": ["LISAForCausalLM"], "vision_tower": "openai/clip-vit-large-patch14"}
    (tmp_path / "config.json").write_text(json.dumps(LLAVA_7B | lisa))
    found = inspect_folder(tmp_path)
    assert (found.settings.family, found.settings.sasp) == ("lisa", None)
    assert found.config.clip.side == 16
    (tmp_path / "config.json").write_text(json.dumps(LLAVA_7B | {"vision_tower": "some/other"}))
    with pytest.raises(CheckpointError, match="some/other"):
        inspect_folder(tmp_path)


def test_both_forms_of_the_recorded_checkpoint_are_whole(goldens: Path) -> None:
    recorded = json.loads((goldens / "checkpoint_keys.json").read_text())
    for form, tower in (("checkpoint", "clip"), ("checkpoint_st", "clip_full")):
        found = inspect_folder(goldens / form, goldens / tower)
        assert found.ok
        expected, _ = expected_headers(found.config, frequencies=True)
        assert {key: list(value.shape) for key, value in expected.items()} == {
            key: shape for key, (shape, _) in recorded.items()
        }


def test_what_cannot_be_read_is_named(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be read"):
        inspect_folder(folder)
