"""A checkpoint that lies elsewhere, sketched on this disk: headers of its weights, no weight.

Small files are copied. A file of weights becomes a sparse one of the same size that holds the bytes
which tell names, shapes and types; the rest is a hole that takes no room. The readers of whole
files read it and refuse what they refuse there. No torch here.
"""

import io
import zipfile
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from workers.read.errors import CheckpointError
from workers.read.files import read_json, weight_files
from workers.read.settings import read_settings

SMALL = (".json", ".model")
WEIGHTS = (".safetensors", ".bin")
SMALL_BYTES = 64 * 2**20
"""Most bytes of all small files, and of what is read of one file of weights."""

SAFETENSORS_HEADER = 100_000_000
"""Longest header that the safetensors library takes; it refuses a longer one by its first bytes."""

LENGTH_BYTES = 8
"""What a safetensors file begins with: its header's length."""

LOCAL_HEADER = 30
SIGNATURE = b"PK\x03\x04"
RECORD_FOLDER = "data"


class RemoteFiles(Protocol):
    """Files of a checkpoint that are read by byte ranges."""

    def sizes(self) -> dict[str, int]:
        """Every file, with ``/`` between the parts of its name, and its size in bytes."""

    def read(self, name: str, start: int, end: int) -> bytes:
        """Bytes of a file from ``start`` up to ``end``."""


def sketch(files: RemoteFiles, folder: Path) -> None:
    """Write the sketch of a checkpoint, and of a tower that lies in it, into an empty folder.

    Raises:
        CheckpointError: a name leads outside, small files are too many, or an index names a file
            that is not there.
    """
    sizes = {name: size for name, size in files.sizes().items() if name.endswith(SMALL + WEIGHTS)}
    small = {name: size for name, size in sizes.items() if name.endswith(SMALL)}
    if sum(small.values()) > SMALL_BYTES:
        raise CheckpointError(
            f"{folder}: {len(small)} configurations of {sum(small.values()):,} bytes; give the "
            "folder of one checkpoint"
        )
    for name, size in sizes.items():
        path = _inside(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as written:
            written.truncate(size)
            if name in small and size:
                written.write(files.read(name, 0, size))
    if any(name.endswith(WEIGHTS) for name in sizes):
        _fill_headers(files, folder, weights_and_tower(folder))


def _fill_headers(files: RemoteFiles, folder: Path, paths: Iterable[Path]) -> None:
    for path in paths:
        name, size = path.relative_to(folder).as_posix(), path.stat().st_size
        fetch = _Fetch(files, name, path)
        with path.open("r+b") as written:
            if path.suffix == ".safetensors":
                _safetensors(fetch, size, written)
            else:
                _pickle(fetch, size, written)


def _inside(folder: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise CheckpointError(f"{folder}: {name!r} leads outside")
    return folder.joinpath(*parts)


def weights_and_tower(folder: Path) -> list[Path]:
    """Files of weights that a checkpoint uses, and those of a tower in a folder of its own.

    Raises:
        CheckpointError: there are none, or an index names one that is missing or outside.
    """
    paths = weight_files(folder)
    try:
        _, own = read_settings(folder, read_json(folder / "config.json"))
    except CheckpointError:  # a tower by itself; or wrong settings, which the reader names
        return paths
    inside = own is not None and (folder / own).resolve().is_relative_to(folder.resolve())
    if own is not None and inside and (folder / own).is_dir():
        paths += weight_files(folder / own)
    return paths


class _Fetch:
    """Reads ranges of one file and stops when they are too many bytes for headers."""

    def __init__(self, files: RemoteFiles, name: str, path: Path) -> None:
        self._files, self._name, self._path = files, name, path
        self._left = SAFETENSORS_HEADER + SMALL_BYTES

    def __call__(self, start: int, end: int) -> bytes:
        if start == end:
            return b""
        self._left -= end - start
        if self._left < 0:
            raise CheckpointError(
                f"{self._path}: cannot be read as plain tensors (endless headers)"
            )
        data = self._files.read(self._name, start, end)
        if len(data) != end - start:
            raise CheckpointError(
                f"{self._path}: {len(data)} bytes came for {end - start} that were asked for"
            )
        return data


Fetch = Callable[[int, int], bytes]


def _safetensors(fetch: Fetch, size: int, written: BinaryIO) -> None:
    start = fetch(0, min(size, LENGTH_BYTES))
    written.write(start)
    length = int.from_bytes(start, "little")
    if length <= min(SAFETENSORS_HEADER, size - LENGTH_BYTES):
        written.write(fetch(LENGTH_BYTES, LENGTH_BYTES + length))


def _pickle(fetch: Fetch, size: int, written: BinaryIO) -> None:
    """Copy a zip's directory and its records but the tensors' own, which get a bare header.

    Local headers of tensors are only read to find where their bytes begin, which nobody needs.
    """
    ranges = _Ranges(fetch, size)
    try:
        with zipfile.ZipFile(ranges) as archive:
            entries, directory = archive.infolist(), archive.start_dir
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return  # stays a hole, which is refused as what it is not
    written.seek(directory)
    written.write(fetch(directory, size))
    starts = sorted({entry.header_offset for entry in entries} | {directory})
    ends = dict(pairwise(starts))
    for entry in entries:
        start, name = entry.header_offset, entry.orig_filename.encode()
        if not 0 <= start <= directory - LOCAL_HEADER - len(name):
            return  # a directory that lies, as the reader will say
        written.seek(start)
        if PurePosixPath(entry.filename).parts[-2:-1] == (RECORD_FOLDER,):
            length = len(name).to_bytes(2, "little") + bytes(2)
            written.write(SIGNATURE + bytes(LOCAL_HEADER - 8) + length + name)
        else:
            written.write(fetch(start, ends[start]))


class _Ranges(io.RawIOBase):
    """A file by ranges, as ``zipfile`` reads one; the last kilobytes come at once."""

    TAIL = 65_536

    def __init__(self, fetch: Fetch, size: int) -> None:
        super().__init__()
        self._fetch, self._size, self._place = fetch, size, 0
        self._held_from = max(0, size - self.TAIL)
        self._held = fetch(self._held_from, size)

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a place and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("before the beginning")
        self._place = base + offset
        return self._place

    def tell(self) -> int:
        """Return the place of the next read."""
        return self._place

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        end = self._size if size < 0 else min(self._size, self._place + size)
        start, self._place = self._place, max(self._place, end)
        if start >= end:
            return b""
        if start >= self._held_from:
            return self._held[start - self._held_from : end - self._held_from]
        return self._fetch(start, end)
