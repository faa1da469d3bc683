"""Folders to models and back, in the layout of the releases. Nothing is ever guessed or left out.

A folder holds ``config.json``, weights, the tokenizer's files and, of ours, ``readloop.json`` and
perhaps the CLIP tower in a folder of its own. Weights are stored in bfloat16.
"""

import json
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
from workers.read.keys import CLIP_PART, CLIP_UNUSED, check_keys, released_key, wanted
from workers.read.layout import clip_json, llava_json, preprocessor_json, read_config
from workers.read.model import ReadModel
from workers.read.settings import ARCHITECTURES, FILE, TOWER, read_settings
from workers.read.weights import read_tensors

OWN_TOWER = "clip"
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
    device: str | torch.device = "cpu",
) -> ReadModel:
    """Load a checkpoint, ready for inference, every weight from a file.

    ``clip`` overrides the place of the vision tower that ``readloop.json`` (relative to the
    folder) or ``config.json`` (a folder or hub name) gives; a full CLIP model will do. SAM's
    prompts and decoder are float32 whatever ``dtype``.

    Raises:
        CheckpointError: a file, key or setting is missing, unexpected, misshapen or unsupported.
    """
    folder = Path(folder)
    llava = read_json(folder / "config.json")
    settings, own_tower = read_settings(folder, llava)
    tower = tower_folder(folder, llava, own_tower, clip)
    weights = wanted(read_tensors(folder))
    _refuse_other_models(folder, weights)
    config = read_config(
        llava,
        read_json(tower / TOWER_FILES[0]),
        read_json(tower / TOWER_FILES[1]),
        {key: tuple(value.shape) for key, value in weights.items()},
    )
    with torch.device("meta"):
        model = ReadModel(config, settings)
    _fill(
        model, (folder, weights), (tower, wanted(read_tensors(tower), CLIP_UNUSED)), dtype, device
    )
    return model.eval()


def save_model(model: ReadModel, folder: str | Path) -> None:
    """Write weights, configuration and settings; the tokenizer's files are the caller's.

    The folder is complete with its tower under ``clip/`` and loads without another.
    """
    folder = Path(folder)
    tower = folder / OWN_TOWER
    tower.mkdir(parents=True, exist_ok=True)
    weights: dict[str, Tensor] = {}
    tower_weights: dict[str, Tensor] = {}
    for key, value in model.state_dict().items():
        target = tower_weights if key.startswith(CLIP_PART) else weights
        target[released_key(key)] = value.detach().to("cpu", torch.bfloat16).contiguous()
    _write_tensors(folder / "model.safetensors", weights)
    _write_tensors(tower / "model.safetensors", tower_weights)
    settings, config = model.settings, model.config
    _write_json(
        folder / "config.json", llava_json(config, ARCHITECTURES[settings.family], OWN_TOWER)
    )
    _write_json(folder / FILE, {**asdict(settings), TOWER: OWN_TOWER})
    _write_json(tower / TOWER_FILES[0], clip_json(config.clip))
    _write_json(tower / TOWER_FILES[1], preprocessor_json(config.clip_view))


def _refuse_other_models(folder: Path, weights: dict[str, Tensor]) -> None:
    for part in ("model.visual_model.", "model.text_hidden_fcs."):
        if not any(key.startswith(part) for key in weights):
            raise CheckpointError(f"{folder}: no weight {part}*; {NOT_LISA_1}")


def _fill(
    model: ReadModel,
    main: tuple[Path, dict[str, Tensor]],
    tower: tuple[Path, dict[str, Tensor]],
    dtype: torch.dtype,
    device: str | torch.device,
) -> None:
    """Give a model on the meta device its weights, and buffers that are computed."""
    names = {key: released_key(key) for key in model.state_dict()}
    expected: dict[bool, dict[str, Tensor]] = {True: {}, False: {}}
    for key, value in model.state_dict().items():
        expected[key.startswith(CLIP_PART)][names[key]] = value
    check_keys(str(main[0]), expected[False], main[1])
    check_keys(str(tower[0]), expected[True], tower[1])
    found = main[1] | tower[1]
    model.load_state_dict(
        {
            key: found[name].to(
                device, torch.float32 if key.startswith(FLOAT32_PARTS) else dtype, copy=True
            )
            for key, name in names.items()
        },
        assign=True,
    )
    model.llama.model.rotary_emb = LlamaRotaryEmbedding(model.llama.config).to(device)
    places = model.clip.embeddings
    places.register_buffer(
        "position_ids", torch.arange(places.num_positions, device=device)[None], persistent=False
    )


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"format": "pt"})
    partial.replace(path)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
