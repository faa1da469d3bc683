"""Low-rank adapters on the language model, and which parts of a model learn (READ, "Training").

Adapters are float32 whatever the model's precision, so that small steps are not rounded away.
``save_model`` writes merged models only.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear as LoraLinear
from safetensors.torch import save_file
from torch import nn

from workers.read.errors import CheckpointError
from workers.read.files import read_json
from workers.read.keys import check_keys
from workers.read.model import MISFITS, ReadModel, lay_out
from workers.read.weights import file_tensors

Part = Literal[
    "adapters",
    "lm_head",
    "embed_tokens",
    "mask_decoder",
    "query_head",
    "projector",
    "llama",
    "clip",
    "image_encoder",
    "prompt_encoder",
]
PREFIXES: dict[Part, str] = {
    "llama": "llama.",
    "clip": "clip.",
    "image_encoder": "sam.image_encoder.",
    "prompt_encoder": "sam.prompt_encoder.",
    "lm_head": "llama.lm_head.",
    "embed_tokens": "llama.model.embed_tokens.",
    "mask_decoder": "sam.mask_decoder.",
    "query_head": "query_head.",
    "projector": "projector.",
}
NAME = "default"
MATRICES = ("lora_A", "lora_B")
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PEFT_PREFIX = "base_model.model."
PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "use_dora": (False,),
    "use_rslora": (False,),
    "fan_in_fan_out": (False,),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "modules_to_save": (None, []),
}
"""What an adapter's configuration may say about what is not supported here."""


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """Size and place of the adapters: rank 8 to go on from a READ model, 64 from LLaVA.

    An adapted weight is ``W + alpha / rank * B @ A``; ``targets`` are module names of LLaMA.
    """

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.05
    targets: tuple[str, ...] = ("q_proj", "v_proj")


@dataclass(frozen=True, slots=True)
class TrainableSettings:
    """The parts that learn; all others are frozen. ``adapters`` are those attached before.

    The default is READ's own. ``llama`` is the whole language model, head and embeddings included.
    """

    parts: tuple[Part, ...] = ("adapters", "lm_head", "embed_tokens", "mask_decoder", "query_head")


def attach(model: ReadModel, settings: LoraSettings | None = None) -> None:
    """Put fresh adapters on the language model, which do not change its answers yet.

    Raises:
        ValueError: the model has adapters already, or no module is named like a target.
    """
    settings = settings or LoraSettings()
    if any(adapted_layers(model)):
        raise ValueError("the model has adapters already; merge them first")
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.targets),
    )
    inject_adapter_in_model(config, model.llama, NAME)
    for _, layer in adapted_layers(model):
        for matrix in MATRICES:
            getattr(layer, matrix)[NAME].float()


def make_trainable(model: ReadModel, settings: TrainableSettings | None = None) -> list[str]:
    """Let the chosen parts learn, freeze all others; returns the names of what learns."""
    settings = settings or TrainableSettings()
    prefixes = tuple(PREFIXES[part] for part in settings.parts if part != "adapters")
    names = []
    for name, weight in model.named_parameters():
        adapter = any(f".{matrix}." in name for matrix in MATRICES)
        learns = "adapters" in settings.parts if adapter else name.startswith(prefixes)
        weight.requires_grad_(learns)
        if learns:
            names.append(name)
    return names


@torch.no_grad()
def merge(model: ReadModel) -> None:
    """Add the adapters to the weights they adapt, and take them away.

    The sum is made in float32 and rounded once to the weight's type.

    Raises:
        ValueError: an adapter holds NaN or infinite values.
    """
    for name, layer in list(adapted_layers(model)):
        base = layer.get_base_layer()
        assert isinstance(base, nn.Linear)
        change = layer.get_delta_weight(NAME)
        if not change.isfinite().all():
            raise ValueError(f"the adapter of {name} holds NaN or infinite values")
        base.weight.copy_(base.weight.float() + change)
        parent, _, child = name.rpartition(".")
        setattr(model.llama.get_submodule(parent), child, base)


def adapted_layers(model: ReadModel) -> Iterator[tuple[str, LoraLinear]]:
    """Yield the adapted layers with their names in the language model."""
    for name, module in model.llama.named_modules():
        if isinstance(module, LoraLinear):
            yield name, module


def save_adapters(model: ReadModel, folder: str | Path, settings: LoraSettings) -> None:
    """Write the adapters as peft does: ``adapter_config.json`` and float32 safetensors."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "target_modules": list(settings.targets),
        "bias": "none",
    }
    (folder / CONFIG).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    matrices = {key: value.detach().cpu().contiguous() for key, value in _matrices(model).items()}
    save_file(matrices, folder / WEIGHTS, metadata={"format": "pt"})


@torch.no_grad()
def load_adapters(model: ReadModel, folder: str | Path) -> LoraSettings:
    """Attach adapters from a folder in peft's layout, and return their settings.

    A model that they do not fit is left as it is.

    Raises:
        CheckpointError: a file is missing, unreadable or unsupported, or does not fit the model.
        ValueError: the model has adapters already.
    """
    folder = Path(folder)
    settings = _read_settings(folder / CONFIG)
    found = dict(file_tensors(folder / WEIGHTS))
    check_keys(str(folder), _expected(model, settings, folder / CONFIG), found)
    for key, value in found.items():
        if not value.isfinite().all():
            raise CheckpointError(f"{folder / WEIGHTS}: {key} holds NaN or infinite values")
    attach(model, settings)
    for key, weight in _matrices(model).items():
        weight.copy_(found[key])
    return settings


def _expected(model: ReadModel, settings: LoraSettings, path: Path) -> dict[str, nn.Parameter]:
    """Adapter weights that such a model would have, on the meta device: nothing is changed."""
    sketch = lay_out(model.config)
    try:
        with torch.device("meta"):
            attach(sketch, settings)
    except MISFITS as error:
        raise CheckpointError(f"{path}: {error}") from error
    return _matrices(sketch)


def _matrices(model: ReadModel) -> dict[str, nn.Parameter]:
    """Adapter weights under peft's names."""
    return {
        f"{PEFT_PREFIX}{name}.{matrix}.weight": getattr(layer, matrix)[NAME].weight
        for name, layer in adapted_layers(model)
        for matrix in MATRICES
    }


def _read_settings(path: Path) -> LoraSettings:
    content = read_json(path)
    for key, values in PLAIN.items():
        if content.get(key, values[0]) not in values:
            raise CheckpointError(f"{path}: {key} {content[key]!r} is not supported")
    names = content.get("target_modules")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"{path}: target_modules {names!r} is not a list of names")
    try:
        numbers = (int(content["r"]), int(content["lora_alpha"]))
        settings = LoraSettings(*numbers, float(content.get("lora_dropout", 0.0)), tuple(names))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{path}: no usable settings of an adapter ({error!r})") from error
    return settings
