"""A folder that appears whole or not at all.

Everything is written into a hidden folder beside it, which is renamed at the end. What a killed
export leaves there is removed by the next one to the same place; a lock tells it from the work of
an export that still runs.
"""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import InputError, StorageError

_ASIDE = "old"
MANIFEST = "export.json"
"""Written last; a folder that has it is complete."""


@contextmanager
def whole_folder(out: Path, *, replace: bool) -> Iterator[Path]:
    """Give a folder to write to, which becomes ``out`` when the block ends well.

    Args:
        out: must be absent or empty, or, with ``replace``, hold an earlier export.
        replace: put the new export in the place of the earlier one.

    Raises:
        InputError: ``out`` is something else.
        StorageError: the disk is full or refuses.
    """
    out = out.expanduser().absolute()
    check_place(out, replace=replace)
    with _disk_faults(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(out)
        part = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
        lock = os.open(part, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield part
            part.chmod(0o777 & ~_umask())
            _put_in_place(part, out)
        finally:
            os.close(lock)
            shutil.rmtree(part, ignore_errors=True)


def check_place(out: Path, *, replace: bool) -> None:
    """Make sure that an export may be written to ``out``.

    Raises:
        InputError: there is a file, or a folder with something else in it.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / MANIFEST).is_file():
        raise InputError(f"{out}: is there already and is no export; choose another --out")
    if not replace:
        raise InputError(f"{out}: holds an export already; add --replace, or choose another --out")


@contextmanager
def _disk_faults(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = error.filename or out
        raise StorageError(f"{place}: cannot be written ({error.strerror})") from error


def _remove_leftovers(out: Path) -> None:
    """Remove what killed exports left; an earlier export that one had moved aside comes back."""
    # As mkdtemp names them: no dot, or the folders of an export to "out.v2" would be taken.
    made = re.compile(rf"\.{re.escape(out.name)}\.[a-z0-9_]+\.part")
    for left in [path for path in out.parent.iterdir() if made.fullmatch(path.name)]:
        with suppress(FileNotFoundError):
            lock = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if (left / _ASIDE).exists() and not out.exists():
                    (left / _ASIDE).rename(out)
                shutil.rmtree(left)
            except BlockingIOError:  # an export that still runs
                continue
            finally:
                os.close(lock)


def _put_in_place(part: Path, out: Path) -> None:
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    lock = os.open(old, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if out.exists():
            out.rename(old / _ASIDE)
        try:
            part.rename(out)
        except OSError:
            if (old / _ASIDE).exists():
                (old / _ASIDE).rename(out)
            raise
    finally:
        os.close(lock)
        shutil.rmtree(old)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
