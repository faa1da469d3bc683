"""``readloop.json``: defaults by family and size, and errors that name the key."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from workers.read.config import ReadSettings, SasPSettings
from workers.read.errors import CheckpointError
from workers.read.settings import read_settings, settings_json

READ_7B = {"architectures": ["READForCausalLM"], "hidden_size": 4096}
READ_13B = {"architectures": ["READForCausalLM"], "hidden_size": 5120}
LISA = {"architectures": ["LISAForCausalLM"], "hidden_size": 4096}


def test_families_and_sizes_have_their_own_defaults(tmp_path: Path) -> None:
    assert read_settings(tmp_path, READ_7B)[0].sasp == SasPSettings(30, 0.8, 0.2, 2)
    assert read_settings(tmp_path, READ_13B)[0].sasp == SasPSettings(60, 0.6, 0.2, 1)
    assert read_settings(tmp_path, LISA)[0] == ReadSettings(family="lisa", sasp=None)


def test_sasp_can_be_switched_on_and_off(tmp_path: Path) -> None:
    (tmp_path / "readloop.json").write_text('{"sasp": {"num_points": 10}}')
    assert read_settings(tmp_path, LISA)[0].sasp == SasPSettings(num_points=10)
    (tmp_path / "readloop.json").write_text('{"sasp": {}}')
    assert read_settings(tmp_path, LISA)[0].sasp == SasPSettings(30, 0.8, 0.2, 2)
    large = LISA | {"hidden_size": 5120}
    assert read_settings(tmp_path, large)[0].sasp == SasPSettings(60, 0.6, 0.2, 1)
    (tmp_path / "readloop.json").write_text('{"sasp": null}')
    assert read_settings(tmp_path, READ_7B)[0].sasp is None


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    settings = ReadSettings(family="sesame", max_new_tokens=7)
    content = asdict(settings) | {"vision_tower": "eyes"}
    (tmp_path / "readloop.json").write_text(json.dumps(content))
    assert read_settings(tmp_path, {}) == (settings, "eyes")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"sapp": None}, "unknown key sapp"),
        ({"sasp": {"points": 3}}, "unknown key points"),
        ({"sasp": {"num_points": 0}}, "num_points must be a positive integer, found 0"),
        ({"sasp": {"t_pos": "high"}}, "t_pos must lie between 0 and 1"),
        ({"sasp": 30}, "'sasp' must be an object"),
        ({"prompt": {"person": "dog"}}, "person"),
        ({"prompt": []}, "'prompt' must be an object"),
        ({"family": "llava"}, "'llava' is none of read, sesame, lisa"),
        ({"max_new_tokens": True}, "max_new_tokens must be a positive integer"),
        ({"vision_tower": 3}, "vision_tower must name a folder"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, content: dict, told: str) -> None:
    (tmp_path / "readloop.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=told) as raised:
        read_settings(tmp_path, READ_7B)
    assert "readloop.json" in str(raised.value)


@pytest.mark.parametrize("value", [None, "4096", 4096.5, []])
def test_a_hidden_size_that_is_none_is_named(tmp_path: Path, value: object) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: 'hidden_size' must be a whole"):
        read_settings(tmp_path, READ_7B | {"hidden_size": value})


def test_architectures_are_named_in_any_case(tmp_path: Path) -> None:
    assert read_settings(tmp_path, {"architectures": ["LisaForCausalLM"]})[0].family == "lisa"


@pytest.mark.parametrize("architectures", [["LlavaLlamaForCausalLM"], "READForCausalLM", 5, None])
def test_an_unknown_architecture_needs_a_family(tmp_path: Path, architectures: object) -> None:
    with pytest.raises(CheckpointError, match="write one of read, sesame, lisa"):
        read_settings(tmp_path, {"architectures": architectures})


def test_canonical_json_tells_settings_apart() -> None:
    one = settings_json(ReadSettings(), precision="float32")
    assert one == settings_json(ReadSettings(), precision="float32")
    assert json.loads(one)["precision"] == "float32"
    assert one != settings_json(ReadSettings(sasp=None), precision="float32")
