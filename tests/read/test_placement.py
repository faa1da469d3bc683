"""Models over several devices: pretended GPUs that refuse each other's tensors as real ones do."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import DynamicCache
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from tests.read.test_inspection import LLAVA_13B
from workers.read.checkpoint import load_model
from workers.read.config import ReadConfig
from workers.read.engine import ReadEngine
from workers.read.errors import CheckpointError
from workers.read.layout import planned_config
from workers.read.model import ReadModel
from workers.read.placement import connect, devices_named, layer_places, weight_devices

GPUS = [torch.device("cuda", index) for index in range(3)]


@pytest.fixture
def pretended() -> Iterator[None]:
    """GPUs that compute nothing, but refuse to mix tensors of two of them."""
    with FakeTensorMode():
        yield


def larger(sizes: ReadConfig) -> ReadConfig:
    """Sizes whose language model is most of the model, as in the releases."""
    return replace(sizes, llama=replace(sizes.llama, layers=6, hidden=256, intermediate=4096))


def spread(sizes: ReadConfig, *, connected: bool) -> ReadModel:
    """A model of six layers, over three pretended GPUs."""
    with torch.device("meta"):
        model = ReadModel(larger(sizes)).eval()
    placed = weight_devices(model.state_dict(), GPUS)
    shapes = model.state_dict().items()
    state = {key: torch.empty(value.shape, device=placed[key]) for key, value in shapes}
    model.load_state_dict(state, assign=True)
    model.llama.model.rotary_emb = LlamaRotaryEmbedding(model.llama.config).to(GPUS[0])
    if connected:
        connect(model, GPUS)
    return model


@pytest.mark.usefixtures("pretended")
def test_states_travel_along_the_layers_and_back(sizes: ReadConfig) -> None:
    model = spread(sizes, connected=True)
    used = {weight.device for weight in model.llama.model.layers.parameters()}
    assert used == set(GPUS)
    cache = DynamicCache(config=model.llama.config)
    for length in (5, 1):
        states = torch.empty(1, length, 256, device=GPUS[0])
        hidden = model.hidden(states, cache)
        assert model.logits(hidden).device == GPUS[0]
    assert [layer.keys.device for layer in cache.layers] == [
        layer.self_attn.k_proj.weight.device for layer in model.llama.model.layers
    ]


@pytest.mark.usefixtures("pretended")
def test_without_the_hooks_they_do_not(sizes: ReadConfig) -> None:
    model = spread(sizes, connected=False)
    states = torch.empty(1, 5, 256, device=GPUS[0])
    with pytest.raises(RuntimeError, match="same device"):
        model.hidden(states)


def test_a_13b_model_fills_its_gpus_evenly() -> None:
    with torch.device("meta"):
        state = ReadModel(planned_config(LLAVA_13B, {})).state_dict()
    placed = weight_devices(state, GPUS[:2])
    held = [sum(state[key].numel() for key in placed if placed[key] == gpu) for gpu in GPUS[:2]]
    layer = sum(value.numel() for key, value in state.items() if "llama.model.layers.0." in key)
    assert abs(held[0] - held[1]) <= layer
    places = layer_places(state, 2)
    assert places == sorted(places)
    assert len(places) == 40


def test_one_device_gets_everything_and_no_hooks(model: ReadModel) -> None:
    assert set(layer_places(model.state_dict(), 1)) == {0}
    connect(model, [torch.device("cpu")])
    assert not hasattr(model.llama.model.layers[0], "_hf_hook")


def test_hooks_change_no_answer(engine: ReadEngine, picture: np.ndarray) -> None:
    (plain,) = engine.predict(picture, ["the road"])
    connect(engine.model, [torch.device("cpu"), torch.device("cpu", 0)])
    assert hasattr(engine.model.llama.model.layers[0], "_hf_hook")
    (hooked,) = engine.predict(picture, ["the road"])
    assert hooked.text == plain.text
    assert np.array_equal(hooked.segments[0].mask, plain.segments[0].mask)


@pytest.mark.parametrize("name", ["moon", "cuda:99", "cuda:0,cuda:77"])
def test_a_device_that_is_not_there_is_named(tiny_folder: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=name):
        load_model(tiny_folder, device=name)


def test_auto_is_every_gpu_or_the_cpu() -> None:
    count = torch.cuda.device_count()
    expected = [torch.device("cuda", index) for index in range(count)] or [torch.device("cpu")]
    assert list(devices_named("auto")) == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_gpus_answer_as_the_cpu_does(
    tiny_folder: Path, engine: ReadEngine, picture: np.ndarray, device: str
) -> None:
    other = ReadEngine.load(tiny_folder, "float32", device)
    (ours,), (theirs,) = engine.predict(picture, ["a"]), other.predict(picture, ["a"])
    assert ours.text == theirs.text
    assert (ours.segments[0].mask == theirs.segments[0].mask).mean() > 0.999
