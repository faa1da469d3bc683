"""What is written down about a model version, and about each time the current one changed."""

import shutil
import subprocess
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import StorageError

Move = Literal["base", "promote", "rollback"]
Record = TypeVar("Record")
_GIT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a version comes from and how it was judged; written once, after its weights.

    ``version`` is the fingerprint that predictions carry as ``model_version``. ``parent`` is the
    version its training started from and ``snapshot`` the training set; both are empty for a model
    from outside, whose address is ``source``. ``metrics`` and ``decision`` are the gate's;
    ``decision`` is empty where none was asked.
    """

    version: str
    parent: str
    snapshot: str
    source: str
    code: str
    created_at: datetime
    settings: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    decision: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the gate let it through."""
        return bool(self.decision.get("promoted"))


@dataclass(frozen=True, slots=True)
class Pointer:
    """The ``number``-th entry of the chain of current versions; the last entry counts.

    ``previous`` was current before, empty at the first entry.
    """

    number: int
    version: str
    kind: Move
    previous: str
    moved_at: datetime


def to_json(record: Lineage | Pointer) -> bytes:
    """Return a record as indented JSON."""
    return TypeAdapter(type(record)).dump_json(record, indent=2)


def read_lineage(data: bytes, uri: str) -> Lineage:
    """Return the lineage that ``data``, read from ``uri``, holds.

    Raises:
        StorageError: it holds something else.
    """
    return _read(TypeAdapter(Lineage), data, uri)


def read_pointer(data: bytes, uri: str) -> Pointer:
    """Return the chain's entry that ``data``, read from ``uri``, holds.

    Raises:
        StorageError: it holds something else.
    """
    return _read(TypeAdapter(Pointer), data, uri)


@cache
def code_version() -> str:
    """Return this program's version, with the commit where it runs from a clone."""
    number, git = installed("readloop"), shutil.which("git")
    if git is None:
        return number
    here = Path(__file__).parent
    asked = [git, "-C", str(here), "rev-parse", "--short=12", "HEAD"]
    try:
        found = subprocess.run(
            asked, capture_output=True, text=True, timeout=_GIT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return number
    return f"{number}+g{found.stdout.strip()}" if found.returncode == 0 else number


def _read(kind: TypeAdapter[Record], data: bytes, uri: str) -> Record:
    try:
        return kind.validate_json(data)
    except ValidationError as error:
        raise StorageError(
            f"{uri}: is not a record of this version ({error.error_count()} problem(s)); "
            "it was changed by hand or written by another release"
        ) from error
