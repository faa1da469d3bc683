"""Folders to models and back, in the layout of the releases. Nothing is ever guessed or left out.

A folder holds ``config.json``, weights, the tokenizer's files and, of ours, ``readloop.json`` and
perhaps the CLIP tower in a folder of its own. Weights are stored in bfloat16.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from safetensors.torch import save_file
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from workers.read.errors import CheckpointError
from workers.read.keys import CLIP_PART, CLIP_UNUSED, check_keys, released_key, wanted
from workers.read.layout import clip_json, llava_json, preprocessor_json, read_config
from workers.read.model import ReadModel
from workers.read.settings import ARCHITECTURES, FILE, TOWER, read_settings
from workers.read.weights import INDEXES, SINGLES, read_json, read_tensors, weight_files

OWN_TOWER = "clip"
TOWER_FILES = ("config.json", "preprocessor_config.json")
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
    tower = _tower_folder(folder, llava, own_tower, clip)
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


def fingerprint(folder: str | Path, *, clip: str | Path | None = None) -> str:
    """Hash the contents of a checkpoint to 16 hex digits: its version.

    Weights, sizes, tokenizer and tower count; ``readloop.json`` does not, its settings are
    recorded by themselves.

    Raises:
        CheckpointError: as :func:`load_model`, as far as files go.
    """
    folder = Path(folder)
    llava = read_json(folder / "config.json")
    tower = _tower_folder(folder, llava, read_settings(folder, llava)[1], clip)
    tokenizer = [folder / name for name in ("tokenizer.model", "added_tokens.json")]
    tower_files = [tower / name for name in TOWER_FILES]
    paths = [folder / "config.json", *tokenizer, *weight_files(folder), *tower_files]
    digest = hashlib.sha256()
    for path in [*paths, *weight_files(tower)]:
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()[:16]


def _tower_folder(
    folder: Path, llava: dict[str, Any], own: str | None, override: str | Path | None
) -> Path:
    if override is not None:
        place = Path(override)
    elif own is not None:
        place = folder / own
    else:
        return _named_tower(folder, llava)
    if not place.is_dir():
        raise CheckpointError(f"{place}: no such folder; the vision tower was expected there")
    return place


def _named_tower(folder: Path, llava: dict[str, Any]) -> Path:
    """Folder of the tower that ``config.json`` names: a folder, or a hub name in the cache."""
    name = llava.get("vision_tower") or llava.get("mm_vision_tower")
    if not name:
        raise CheckpointError(f"{folder / 'config.json'}: names no 'vision_tower'")
    if Path(name).is_dir():
        return Path(name)
    try:
        return Path(snapshot_download(name, allow_patterns=[*TOWER_FILES, *SINGLES, *INDEXES]))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise CheckpointError(
            f"{folder / 'config.json'}: vision tower {name!r} is neither a folder nor to be had "
            f'from the hub; write {{"{TOWER}": "FOLDER"}} into {folder / FILE}'
        ) from error


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
