"""Tensors of a Hugging Face folder: safetensors or ``.bin``, in one file or sharded."""

import pickle
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from workers.read.errors import CheckpointError
from workers.read.files import weight_files


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Read all tensors of a folder, memory-mapped on the CPU.

    Raises:
        CheckpointError: a file is missing, truncated, or holds anything but tensors.
    """
    tensors: dict[str, Tensor] = {}
    for path in weight_files(folder):
        tensors.update(_read_file(path))
    return tensors


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
