"""Reads pickles that come from outside: plain data only, nothing that could run.

A pickle builds objects by naming functions and classes to call. Dictionaries, lists, tuples, sets,
strings, bytes, numbers, booleans and None need no name, so every name is refused.
"""

import pickle
from pathlib import Path
from typing import NoReturn

from pipeline.errors import InputError

_MAX_BYTES = 1_000_000_000
_BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    MemoryError,
)
"""What a pickle that is cut or forged makes the unpickler raise."""


def read_plain_pickle(path: Path) -> object:
    """Return the content of a pickle of plain data, written by Python 2 or 3.

    Raises:
        InputError: the file is missing, too large, broken, or holds anything but plain data; the
            message names what was refused.
    """
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise InputError(f"{path}: {size:,} bytes are more than the limit of {_MAX_BYTES:,}")
        with path.open("rb") as file:
            return _PlainUnpickler(file, encoding="utf-8", errors="replace").load()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except _RefusedError as error:
        raise InputError(
            f"{path}: holds {error}, which could run code when it is read; only plain data is "
            "taken (dict, list, tuple, set, str, bytes, numbers, None)"
        ) from error
    except _BROKEN as error:
        raise InputError(f"{path}: is not a pickle of plain data: {error}") from error


class _RefusedError(Exception):
    """Names what a pickle asks for."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> NoReturn:
        raise _RefusedError(f"{module_name}.{global_name}")

    def persistent_load(self, pid: object, /) -> NoReturn:
        raise _RefusedError(f"a reference to an outside object, {pid!r}")
