"""What a model is, wherever it lies, told from its configurations and headers.

Of a model elsewhere only those are read, by byte ranges, unless it was fetched before.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pipeline.errors import ModelUnusableError
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import ObjectInfo, Store, open_store
from workers.models import hub_id, stored_files, unreachable
from workers.read.errors import CheckpointError
from workers.read.hub import HUB_ERRORS, sketch_from_hub
from workers.read.sketch import sketch

if TYPE_CHECKING:
    from workers.read.inspection import Inspection


class StoredFiles:
    """Files of a store, see :class:`workers.read.sketch.RemoteFiles`."""

    def __init__(self, store: Store, files: list[ObjectInfo]) -> None:
        self._store = store
        self._sizes = {file.uri.removeprefix(f"{store.uri}/"): file.size for file in files}

    def sizes(self) -> dict[str, int]:
        """Every file and its size in bytes."""
        return self._sizes

    def read(self, name: str, start: int, end: int) -> bytes:
        """Bytes of a file from ``start`` up to ``end``."""
        return self._store.get_range(name, start, end)


def inspect_model(
    source: str, clip: Path | None = None, tell: Callable[[str], None] = lambda _: None
) -> "tuple[str, Inspection]":
    """Find a model and describe it; returns where it lies for good as well.

    ``tell`` hears of what takes time.

    Raises:
        ModelUnusableError: there is no such model, or a file of it cannot be read.
        StorageError: the store refused or broke.
    """
    local = Path(source).expanduser()
    if not source.startswith("s3://") and local.is_dir():
        folder = local.resolve()
        return str(folder), _described(str(folder), folder, clip)
    with TemporaryDirectory(prefix="readloop-model-") as scratch:
        tell(f"reading the headers of {source}")
        pinned, folder = _sketched(source, Path(scratch))
        return pinned, _described(pinned, folder, clip)


def _sketched(source: str, scratch: Path) -> tuple[str, Path]:
    """Return where a model elsewhere lies for good, and a folder that describes it."""
    try:
        if source.startswith("s3://"):
            store = open_store(source, S3Settings())
            files, fetched = stored_files(store)
            if fetched.is_dir():
                return source, fetched
            sketch(StoredFiles(store, files), scratch)
            return source, scratch
        name, revision = hub_id(source)
        commit, folder = sketch_from_hub(name, revision, scratch)
        return f"{name}@{commit}", folder
    except CheckpointError as error:
        raise _named(source, scratch, error) from error
    except HUB_ERRORS as error:
        raise unreachable(source, error) from error


def _described(source: str, folder: Path, clip: Path | None) -> "Inspection":
    from workers.read.inspection import inspect_folder  # noqa: PLC0415  (brings torch)

    try:
        found = inspect_folder(folder, clip)
    except CheckpointError as error:
        raise _named(source, folder, error) from error
    return replace(
        found,
        tower=found.tower and found.tower.replace(str(folder), source),
        tower_problem=found.tower_problem and found.tower_problem.replace(str(folder), source),
    )


def _named(source: str, folder: Path, error: CheckpointError) -> ModelUnusableError:
    """Say the source instead of the folder that stands for it for a moment."""
    return ModelUnusableError(str(error).replace(str(folder), source))
