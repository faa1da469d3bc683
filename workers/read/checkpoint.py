"""Folders to models and back, in the layout of the releases. Nothing is ever guessed or left out.

A folder holds ``config.json``, weights, the tokenizer's files and, of ours, ``readloop.json`` and
perhaps the CLIP tower in a folder of its own. Weights are stored in bfloat16.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from workers.read.errors import CheckpointError
from workers.read.files import read_json
from workers.read.identity import TOWER_FILES, tower_folder
from workers.read.keys import CLIP_UNUSED, check_keys, released_key, released_tensors, wanted
from workers.read.layout import clip_json, llava_json, preprocessor_json, read_config
from workers.read.model import ReadModel, lay_out
from workers.read.placement import connect, devices_named, weight_devices
from workers.read.settings import ARCHITECTURES, FILE, OWN_TOWER, TOWER, read_settings
from workers.read.weights import read_headers, read_tensors

FLOAT32_PARTS = ("sam.prompt_encoder.", "sam.mask_decoder.")
NOT_LISA_1 = (
    "this is not a READ, SESAME or LISA v1 checkpoint. LISA v0 keeps its parts in files of their "
    "own and plain LLaVA has none of them: neither is supported"
)


def load_model(
    folder: str | Path,
    *,
    clip: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> ReadModel:
    """Load a checkpoint, ready for inference, every weight from a file.

    ``clip`` overrides the place of the vision tower that ``readloop.json`` (relative to the
    folder) or ``config.json`` (a folder or hub name) gives; a full CLIP model will do. SAM's
    prompts and decoder are float32 whatever ``dtype``. ``device`` may name several, see
    :func:`workers.read.placement.devices_named`. Weights go to their device one by one: the host
    never holds more than one of those that belong elsewhere.

    Raises:
        CheckpointError: a file, key or setting is missing, unexpected, misshapen or unsupported.
    """
    folder, devices = Path(folder), devices_named(device)
    llava = read_json(folder / "config.json")
    settings, own_tower = read_settings(folder, llava)
    tower = tower_folder(folder, llava, own_tower, clip)
    weights = wanted(read_headers(folder))
    refuse_other_models(folder, weights)
    shapes = {key: tuple(value.shape) for key, value in weights.items()}
    clip_sizes, preprocessor = (read_json(tower / name) for name in TOWER_FILES)
    try:
        model = lay_out(read_config(llava, clip_sizes, preprocessor, shapes), settings)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from error
    expected, tower_expected = released_tensors(model.state_dict())
    check_keys(str(folder), expected, weights)
    check_keys(str(tower), tower_expected, wanted(read_headers(tower), CLIP_UNUSED))
    _fill(model, (folder, tower), dtype, devices)
    connect(model, devices)
    return model.eval()


def save_model(model: ReadModel, folder: str | Path) -> None:
    """Write weights, configuration and settings; the tokenizer's files are the caller's.

    The folder is complete with its tower under ``clip/`` and loads without another.

    Raises:
        ValueError: the model has adapters that are not merged.
    """
    if any(".lora_A." in name for name, _ in model.named_parameters()):
        raise ValueError("the model has adapters: merge them before it is saved")
    folder = Path(folder)
    tower = folder / OWN_TOWER
    tower.mkdir(parents=True, exist_ok=True)
    for place, weights in zip((folder, tower), released_tensors(model.state_dict()), strict=True):
        stored = {
            key: value.detach().to("cpu", torch.bfloat16).contiguous()
            for key, value in weights.items()
        }
        _write_tensors(place / "model.safetensors", stored)
    settings, config = model.settings, model.config
    _write_json(
        folder / "config.json", llava_json(config, ARCHITECTURES[settings.family], OWN_TOWER)
    )
    _write_json(folder / FILE, {**asdict(settings), TOWER: OWN_TOWER})
    _write_json(tower / TOWER_FILES[0], clip_json(config.clip))
    _write_json(tower / TOWER_FILES[1], preprocessor_json(config.clip_view))


def refuse_other_models(folder: Path, keys: Collection[str]) -> None:
    """Tell READ's layout from others that look alike.

    Raises:
        CheckpointError: the keys lack a part that READ, SESAME and LISA v1 have.
    """
    for part in ("model.visual_model.", "model.text_hidden_fcs."):
        if not any(key.startswith(part) for key in keys):
            raise CheckpointError(f"{folder}: no weight {part}*; {NOT_LISA_1}")


def _fill(
    model: ReadModel,
    folders: Sequence[Path],
    dtype: torch.dtype,
    devices: Sequence[torch.device],
) -> None:
    """Give a model on the meta device its weights one by one, and buffers that are computed."""
    names = {released_key(key): key for key in model.state_dict()}
    placed, first = weight_devices(model.state_dict(), devices), devices[0]
    state: dict[str, Tensor] = {}
    for folder in folders:
        for name, value in read_tensors(folder):
            if name in names:
                exact = names[name].startswith(FLOAT32_PARTS)
                target = torch.float32 if exact else dtype
                _refuse_unusable(folder, name, value, target)
                state[names[name]] = value.to(placed[names[name]], target, copy=True)
    model.load_state_dict(state, assign=True)
    model.llama.model.rotary_emb = LlamaRotaryEmbedding(model.llama.config).to(first)
    places = model.clip.embeddings
    places.register_buffer(
        "position_ids", torch.arange(places.num_positions, device=first)[None], persistent=False
    )


def _refuse_unusable(folder: Path, name: str, value: Tensor, target: torch.dtype) -> None:
    if not value.is_floating_point():
        raise CheckpointError(
            f"{folder}: {name} holds {value.dtype}; expected floats, quantized weights are not "
            "supported"
        )
    lowest, highest = value.aminmax()  # NaN wins in both; makes no array of the weight's size
    if not (lowest.isfinite() and highest.isfinite()):
        raise CheckpointError(f"{folder}: {name} holds NaN or infinite values")
    largest, limit = max(-float(lowest), float(highest)), torch.finfo(target).max
    if largest > limit:
        raise CheckpointError(
            f"{folder}: {name} holds {largest:.3g}, {target} ends at {limit:.3g}; "
            "choose another precision"
        )


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"format": "pt"})
    partial.replace(path)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
