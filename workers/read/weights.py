"""Tensors of a Hugging Face folder: safetensors or ``.bin``, in one file or sharded.

Headers come first and tell names, shapes and types without reading a weight; the weights follow
one by one, so that loading needs no second copy of them. Pickles are read by torch's restricted
unpickler only, which builds tensors and nothing else.
"""

import pickle
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from workers.read.errors import CheckpointError
from workers.read.files import weight_files

UNREADABLE = (
    SafetensorError,
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
    struct.error,
)
"""What damaged or hostile files make the two readers raise."""

MAPPED_BYTES = 128 * 2**20
"""Bytes of a ``.bin`` file that may stay mapped. To map it anew takes reading all of its names."""

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
}
"""Types by their names in safetensors: floats, and the position ids of CLIP towers."""


def read_headers(folder: Path) -> dict[str, Tensor]:
    """Tell every tensor of a folder by an empty one of its shape and type on the meta device.

    Raises:
        CheckpointError: a file is missing, truncated, or holds anything but tensors, or two files
            hold the same name.
    """
    headers: dict[str, Tensor] = {}
    for path in weight_files(folder):
        found = file_headers(path)
        twice = sorted(headers.keys() & found.keys())
        if twice:
            raise CheckpointError(f"{path}: holds {twice[0]}, which another file holds too")
        headers.update(found)
    return headers


def read_tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield the names and tensors of a folder, memory-mapped on the CPU.

    At most :data:`MAPPED_BYTES` of those that were dropped stay mapped.

    Raises:
        CheckpointError: see :func:`read_headers`.
    """
    for path in weight_files(folder):
        yield from file_tensors(path)


def file_headers(path: Path) -> dict[str, Tensor]:
    """Headers of one file, see :func:`read_headers`."""
    if path.suffix != ".safetensors":
        return _unpickled(path, "meta")
    try:
        with safe_open(path, "pt") as file:
            return {key: _header(file.get_slice(key)) for key in file.keys()}  # noqa: SIM118
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def file_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Tensors of one file, see :func:`read_tensors`."""
    if path.suffix != ".safetensors":
        yield from _unpickled_tensors(path)
        return
    for key in file_headers(path):
        try:
            with safe_open(path, "pt") as file:  # each time, so that no page stays mapped
                tensor = file.get_tensor(key)
        except UNREADABLE as error:
            raise _unreadable(path, error) from error
        yield key, tensor


def _unpickled_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Map a file anew from time to time: all of its tensors hold the same mapping."""
    tensors = _unpickled(path, "cpu")
    mapped = 0
    for key in list(tensors):
        if mapped > MAPPED_BYTES:
            tensors, mapped = _unpickled(path, "cpu"), 0
        mapped += tensors[key].nbytes
        yield key, tensors[key]


def _header(part: object) -> Tensor:
    name = part.get_dtype()  # type: ignore[attr-defined]
    if name not in DTYPES:
        raise ValueError(f"tensors of type {name}")
    return torch.empty(part.get_shape(), dtype=DTYPES[name], device="meta")  # type: ignore[attr-defined]


def _unpickled(path: Path, device: str) -> dict[str, Tensor]:
    try:
        if not zipfile.is_zipfile(path):
            raise CheckpointError(f"{path}: truncated, or not written by torch.save since 1.6")
        content = torch.load(path, map_location=device, weights_only=True, mmap=True)
    except CheckpointError:
        raise
    except UNREADABLE as error:
        raise _unreadable(path, error) from error
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and torch.is_tensor(value) for key, value in content.items()
    ):
        raise CheckpointError(f"{path}: holds something other than named tensors")
    for key, value in content.items():
        if value.layout != torch.strided or value.dtype not in DTYPES.values():
            raise CheckpointError(
                f"{path}: {key} is a tensor of {value.dtype}, {value.layout}; expected strided "
                "floats of 16 to 64 bits, or int64"
            )
        if value.device.type != device:
            raise CheckpointError(f"{path}: {key} holds no numbers")
    return content


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return CheckpointError(f"{path}: cannot be read as plain tensors ({reason})")
