"""Tensors of a Hugging Face folder: safetensors or ``.bin``, in one file or sharded."""

import json
import pickle
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from workers.read.errors import CheckpointError

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SINGLES = ("model.safetensors", "pytorch_model.bin")


def read_json(path: Path) -> dict:
    """Read a JSON object.

    Raises:
        CheckpointError: the file is missing, unreadable or not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: must hold a JSON object")
    return content


def weight_files(folder: Path) -> list[Path]:
    """Files that hold the folder's weights; safetensors are preferred.

    Raises:
        CheckpointError: there are none, or the index names a file that is not there.
    """
    for index, single in zip(INDEXES, SINGLES, strict=True):
        if (folder / index).is_file():
            return _shards(folder, folder / index)
        if (folder / single).is_file():
            return [folder / single]
    raise CheckpointError(f"{folder}: no weights; expected one of {', '.join(SINGLES + INDEXES)}")


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Read all tensors of a folder, memory-mapped on the CPU.

    Raises:
        CheckpointError: a file is missing, truncated, or holds anything but tensors.
    """
    tensors: dict[str, Tensor] = {}
    for path in weight_files(folder):
        tensors.update(_read_file(path))
    return tensors


def _shards(folder: Path, index: Path) -> list[Path]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise CheckpointError(f"{index}: holds no 'weight_map'")
    paths = [folder / Path(str(name)).name for name in sorted(set(names.values()))]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise CheckpointError(f"{missing[0]}: missing, though {index.name} names it")
    return paths


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if not zipfile.is_zipfile(path):
            raise CheckpointError(f"{path}: truncated, or not written by torch.save since 1.6")
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: cannot be read as plain tensors ({reason})") from error
    if not isinstance(content, dict) or not all(torch.is_tensor(v) for v in content.values()):
        raise CheckpointError(f"{path}: holds something other than named tensors")
    return content
