"""Where a model's parts lie: one device, or the language model's layers spread over several.

A model on several devices keeps everything but some of LLaMA's layers on the first one, where
images and prompts come in and states come out; hooks (accelerate's) carry the states along the
layers. The spread is by bytes, so that each device holds about the same.
"""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from workers.read.errors import CheckpointError
from workers.read.model import ReadModel

LAYER = re.compile(r"llama\.model\.layers\.(\d+)\.")
SPREAD = "auto"
"""All GPUs that this process may see; the CPU where there are none."""


def devices_named(name: str) -> tuple[torch.device, ...]:
    """Devices that ``cpu``, ``cuda``, ``cuda:1``, ``cuda:0,cuda:1`` or ``auto`` stand for.

    Raises:
        CheckpointError: torch knows no such device, or this machine has not got it.
    """
    visible = torch.cuda.device_count()
    if name == SPREAD:
        return tuple(torch.device("cuda", index) for index in range(visible)) or (
            torch.device("cpu"),
        )
    try:
        devices = tuple(torch.device(part.strip()) for part in name.split(","))
    except RuntimeError as error:
        raise CheckpointError(
            f"device {name!r}: write cpu, cuda, cuda:N, several with commas, or {SPREAD}"
        ) from error
    for device in devices:
        if device.type == "cuda" and (device.index or 0) >= visible:
            raise CheckpointError(f"device {name!r}: this process sees {visible} GPUs")
    return devices


def layer_places(state: Mapping[str, Tensor], devices: int) -> list[int]:
    """Device number of each of LLaMA's layers, in order; ``state`` is a model's, of any device.

    The first device also holds everything that is no layer, and gets fewer of these for it.
    """
    sizes: dict[int, int] = {}
    for key, value in state.items():
        match = LAYER.match(key)
        if match:
            layer = int(match[1])
            sizes[layer] = sizes.get(layer, 0) + value.numel()
    filled = sum(value.numel() for value in state.values()) - sum(sizes.values())
    share = max(1.0, (filled + sum(sizes.values())) / devices)
    places = []
    for layer in sorted(sizes):
        middle = filled + sizes[layer] / 2
        places.append(min(devices - 1, int(middle / share)))
        filled += sizes[layer]
    return places


def weight_devices(
    state: Mapping[str, Tensor], devices: Sequence[torch.device]
) -> dict[str, torch.device]:
    """Device of every weight of a model's state."""
    places = layer_places(state, len(devices))
    placed = {}
    for key in state:
        match = LAYER.match(key)
        placed[key] = devices[places[int(match[1])]] if match else devices[0]
    return placed


def connect(model: ReadModel, devices: Sequence[torch.device]) -> None:
    """Let states travel: each layer takes its inputs to its own device, the norm takes them back.

    A model on one device needs nothing and gets nothing.
    """
    if len(devices) < 2:  # noqa: PLR2004
        return
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module  # noqa: PLC0415  (seldom)

    llama = model.llama.model
    for layer, place in zip(
        llama.layers, layer_places(model.state_dict(), len(devices)), strict=True
    ):
        add_hook_to_module(layer, AlignDevicesHook(devices[place]))
    add_hook_to_module(llama.norm, AlignDevicesHook(devices[0]))
