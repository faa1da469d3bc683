"""Sizes from JSON and shapes: everything is derived, unsupported wishes are refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from workers.read.checkpoint import load_model, save_model
from workers.read.config import ReadConfig
from workers.read.errors import CheckpointError
from workers.read.layout import clip_json, llava_json, preprocessor_json, read_config
from workers.read.model import ReadModel, lay_out


def parts(sizes: ReadConfig) -> tuple[dict, dict, dict, dict]:
    with torch.device("meta"):
        sam = ReadModel(sizes).sam.state_dict()
    shapes = {f"model.visual_model.{key}": tuple(value.shape) for key, value in sam.items()}
    llava = llava_json(sizes, "READForCausalLM", "clip")
    return llava, clip_json(sizes.clip), preprocessor_json(sizes.clip_view), shapes


def test_sizes_come_back_from_what_is_written(sizes: ReadConfig) -> None:
    assert read_config(*parts(sizes)) == sizes


@pytest.mark.parametrize("windows", [(0,), (3, 0, 0), (5, 5)])
def test_windows_are_read_off_relative_positions(
    sizes: ReadConfig, windows: tuple[int, ...]
) -> None:
    changed = replace(sizes, sam=replace(sizes.sam, windows=windows, mlp=100))
    assert read_config(*parts(changed)) == changed


def test_what_a_tower_leaves_unsaid_is_what_transformers_means(sizes: ReadConfig) -> None:
    llava, clip, preprocessor, shapes = parts(sizes)
    silent = {key: value for key, value in clip.items() if key not in ("image_size", "hidden_act")}
    view = preprocessor | {"size": 224, "crop_size": 224}
    assert read_config(llava, silent, view, shapes).clip == replace(sizes.clip, image=224)


@pytest.mark.parametrize("projector", ["linear", "mlp1x_gelu", "mlp3x_gelu"])
def test_every_projector_is_saved_and_loaded(
    sizes: ReadConfig, projector: str, tmp_path: Path
) -> None:
    save_model(ReadModel(replace(sizes, projector=projector)), tmp_path)
    assert load_model(tmp_path).config.projector == projector


def test_image_processors_may_nest_their_sizes(sizes: ReadConfig) -> None:
    llava, clip, preprocessor, shapes = parts(sizes)
    nested = {"size": {"shortest_edge": 112}, "crop_size": {"height": 112, "width": 112}}
    assert read_config(llava, clip, preprocessor | nested, shapes) == sizes


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rope_scaling", {"type": "linear", "factor": 2.0}),
        ("mm_vision_select_feature", "cls_patch"),
        ("hidden_act", "gelu"),
        ("mm_projector_type", "resampler"),
    ],
)
def test_unsupported_wishes_are_named(sizes: ReadConfig, key: str, value: object) -> None:
    llava, *others = parts(sizes)
    with pytest.raises(CheckpointError, match=key):
        ReadModel(read_config(llava | {key: value}, *others))


@pytest.mark.parametrize("value", ["big", 0, True])
def test_a_size_that_is_none_is_named(sizes: ReadConfig, value: object) -> None:
    llava, *others = parts(sizes)
    with pytest.raises(CheckpointError, match="'hidden_size' must be a positive number"):
        read_config(llava | {"hidden_size": value}, *others)


@pytest.mark.parametrize(("key", "value"), [("num_hidden_layers", 10**9), ("vocab_size", 64.5)])
def test_a_size_that_no_model_has_is_refused_before_it_is_built(
    sizes: ReadConfig, key: str, value: object
) -> None:
    llava, *others = parts(sizes)
    with pytest.raises(CheckpointError, match=f"'{key}'"):
        read_config(llava | {key: value}, *others)


def test_a_view_that_does_not_fit_the_tower_is_refused(sizes: ReadConfig) -> None:
    llava, clip, preprocessor, shapes = parts(sizes)
    with pytest.raises(CheckpointError, match="crops to 336 pixels"):
        read_config(llava, clip, preprocessor | {"crop_size": 336}, shapes)


def test_a_missing_size_is_named(sizes: ReadConfig) -> None:
    llava, *others = parts(sizes)
    del llava["num_hidden_layers"]
    with pytest.raises(CheckpointError, match="num_hidden_layers"):
        read_config(llava, *others)


WRONG = (
    *(None, "", "x", "mlp1000000000x_gelu", "mlp0x_gelu", [], {}, [1], True),
    *(-1, 0, 1, 5, 0.5, 10**6, 10**30, 10**400, float("nan"), float("inf")),
)


def built_or_refused(*described: dict) -> bool:
    """Whether a model of these sizes can be laid out; anything but a refusal by name goes on."""
    try:
        lay_out(read_config(*described))
    except CheckpointError:
        return False
    return True


@pytest.mark.parametrize("file", [0, 1, 2], ids=["config", "tower", "preprocessor"])
def test_no_value_of_a_key_gets_past_a_refusal_by_name(sizes: ReadConfig, file: int) -> None:
    described = parts(sizes)
    refused = 0
    for key in described[file]:
        for value in WRONG:
            changed = list(described)
            changed[file] = described[file] | {key: value}
            refused += not built_or_refused(*changed)
    assert refused > len(described[file])


def test_no_shape_of_a_weight_gets_past_a_refusal_by_name(sizes: ReadConfig) -> None:
    *files, shapes = parts(sizes)
    refused = 0
    for key in shapes:
        for shape in ((), (0,), (5,), (7, 5), (8, 0), (3, 7, 7, 9), (1, 1, 1, 1, 1)):
            refused += not built_or_refused(*files, shapes | {key: shape})
    assert refused > 0
