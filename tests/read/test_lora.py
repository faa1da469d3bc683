"""Adapters: they change nothing at first, learn, merge into the weights, and can be exported."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from workers.read.checkpoint import load_model, save_model
from workers.read.errors import CheckpointError
from workers.read.lora import (
    LoraSettings,
    TrainableSettings,
    adapted_layers,
    attach,
    load_adapters,
    make_trainable,
    merge,
    save_adapters,
)
from workers.read.model import ReadModel

EMBEDDINGS = torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(4))


def randomize(model: ReadModel) -> None:
    """As if it had been trained: the second matrix is no longer zero."""
    torch.manual_seed(11)
    for _, layer in adapted_layers(model):
        torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.1)


@torch.no_grad()
def states(model: ReadModel) -> torch.Tensor:
    return model.eval().hidden(EMBEDDINGS.to(model.dtype)).float()


def test_fresh_adapters_change_nothing_and_sit_where_they_should(model: ReadModel) -> None:
    before = states(model)
    attach(model)
    assert torch.equal(states(model), before)
    names = [name for name, _ in adapted_layers(model)]
    assert names == [
        f"model.layers.{layer}.self_attn.{part}"
        for layer in (0, 1)
        for part in ("q_proj", "v_proj")
    ]
    layer = dict(adapted_layers(model))[names[0]]
    assert (layer.r["default"], layer.scaling["default"]) == (8, 2.0)
    assert layer.lora_dropout["default"].p == 0.05
    with pytest.raises(ValueError, match="adapters already"):
        attach(model)


def test_merged_equals_unmerged(model: ReadModel) -> None:
    base = states(model)
    attach(model, LoraSettings(rank=4))
    randomize(model)
    unmerged = states(model)
    merge(model)
    assert not list(adapted_layers(model))
    assert (unmerged - base).abs().max() > 0.01
    assert (states(model) - unmerged).abs().max() < 1e-5


def test_a_merged_model_is_exported_in_the_released_layout(
    tiny_folder: Path, tmp_path: Path
) -> None:
    model = load_model(tiny_folder, dtype=torch.bfloat16)
    attach(model)
    randomize(model)
    with pytest.raises(ValueError, match="merge them"):
        save_model(model, tmp_path)
    merge(model)
    save_model(model, tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert stored.keys() == load_file(tiny_folder / "model.safetensors").keys()
    again = load_model(tmp_path, dtype=torch.bfloat16).state_dict()
    for key, value in model.state_dict().items():
        assert torch.equal(again[key], value), key


def test_only_the_chosen_parts_learn(model: ReadModel) -> None:
    attach(model)
    names = make_trainable(model)
    assert names == [name for name, weight in model.named_parameters() if weight.requires_grad]
    starts = {name.split(".")[0] + "." + name.split(".")[1] for name in names}
    assert starts == {
        "llama.model",
        "llama.lm_head",
        "query_head.0",
        "query_head.2",
        "sam.mask_decoder",
    }
    adapters = [name for name in names if "lora" in name]
    assert len(adapters) == 8
    assert make_trainable(model, TrainableSettings(("adapters",))) == adapters
    states_with_gradient = model.train().hidden(EMBEDDINGS)
    states_with_gradient.square().sum().backward()
    with_gradient = [name for name, weight in model.named_parameters() if weight.grad is not None]
    assert with_gradient == adapters


def test_adapters_are_saved_and_loaded_in_pefts_layout(
    tiny_folder: Path, model: ReadModel, tmp_path: Path
) -> None:
    settings = LoraSettings(rank=3, alpha=6, dropout=0.0, targets=("q_proj", "o_proj"))
    attach(model, settings)
    randomize(model)
    save_adapters(model, tmp_path, settings)
    key = "base_model.model.model.layers.1.self_attn.o_proj.lora_B.weight"
    assert load_file(tmp_path / "adapter_model.safetensors")[key].shape == (64, 3)
    other = load_model(tiny_folder)
    assert load_adapters(other, tmp_path) == settings
    assert torch.equal(states(other), states(model))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"use_dora": True}, "use_dora True"),
        ({"r": "x"}, "no usable settings"),
        ({"r": 0}, "adapter_config"),
        ({"r": 10**9}, "missing"),
        ({"r": 10**30}, "adapter_config"),
        ({"r": float("inf")}, "no usable settings"),
        ({"target_modules": ".*q_proj"}, "is not a list of names"),
        ({"target_modules": ["no_proj"]}, "no_proj"),
        ({}, "missing"),
    ],
)
def test_adapters_that_do_not_fit_are_named(
    model: ReadModel, tmp_path: Path, change: dict, told: str
) -> None:
    content = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(content | change))
    save_file({"a": torch.zeros(1)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=told):
        load_adapters(model, tmp_path)
    assert not any(adapted_layers(model))
