"""Where a model comes from: a folder, an ``s3://`` prefix or a hub id. Replicas get a folder.

Weights from elsewhere are kept in ``$XDG_CACHE_HOME/readloop/models`` (``~/.cache`` by default)
or in the hub's own cache. No torch here, drivers ask too.
"""

import hashlib
import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ModelUnusableError
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import ObjectInfo, Store, open_store
from workers.read.errors import CheckpointError
from workers.read.hub import HUB_ERRORS, HUB_FILES, HUB_UNUSED, split_revision
from workers.read.identity import download_tower, identify
from workers.read.settings import FILE, OWN_TOWER, TOWER
from workers.settings import PoolSettings, Precision

if TYPE_CHECKING:
    from workers.read.engine import ReadEngine

SPREAD = "auto"
"""Device of a model that is spread over all GPUs that a replica may see."""

PIECE_BYTES = 64 * 2**20
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(@[\w./-]+)?")


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """The model of a run, as decided before anything is labeled.

    ``source`` leads to the same weights for as long as they exist: a hub id is pinned to a commit,
    a folder is absolute. ``version`` and ``settings_json`` go into the keys of the tasks. ``tower``
    is the vision tower's hub id, pinned too, or None if it lies in a folder.
    """

    source: str
    version: str
    settings_json: str
    tower: str | None = None

    @property
    def name(self) -> str:
        """Version and a hash of the settings: equal names, equal answers."""
        return f"{self.version}-{hashlib.sha256(self.settings_json.encode()).hexdigest()[:8]}"

    def record(self, store: Store) -> None:
        """Write down once, in ``model_sources/``, which weights a ``model_version`` stands for."""
        source = hashlib.sha256(self.source.encode()).hexdigest()[:8]
        content = {
            "model_version": self.version,
            "source": self.source,
            "vision_tower": self.tower,
            "settings": json.loads(self.settings_json),
        }
        store.put_new(
            f"model_sources/{self.name}-{source}.json", json.dumps(content, indent=2).encode()
        )

    def loader(self, s3: S3Settings, pool: PoolSettings) -> "EngineLoader":
        """Return what loads it in a replica: on its GPU if it has one, over all if several."""
        device = "cpu" if not pool.gpus else SPREAD if pool.gpus > 1 else "cuda"
        return EngineLoader(self.source, self.tower, s3, pool.precision, device)


@dataclass(frozen=True, slots=True)
class EngineLoader:
    """Loads the engine in a replica; it is pickled."""

    source: str
    tower: str | None
    s3: S3Settings
    precision: Precision
    device: str

    def __call__(self) -> "ReadEngine":
        """Fetch the weights if they are not here, and load them.

        Raises:
            ModelUnusableError: they are missing, incomplete or of another kind.
            StorageError: the store refused or broke.
        """
        from workers.read.engine import ReadEngine  # noqa: PLC0415  (drivers load no torch)

        _, folder = _find(self.source, self.s3)
        clip = None if self.tower is None else _tower_folder(self.tower)
        try:
            return ReadEngine.load(folder, self.precision, self.device, clip=clip)
        except CheckpointError as error:
            raise ModelUnusableError(str(error)) from error


def _tower_folder(name: str) -> Path:
    try:
        return download_tower(name)
    except HUB_ERRORS as error:
        raise ModelUnusableError(
            f"vision tower {name}: neither in the hub's cache, nor to be had from the hub ({error})"
        ) from error


def keep_tower(planned: PlannedModel, store: Store, folder: str) -> None:
    """Store a model's vision tower from the hub inside of its own stored folder, if it has one.

    Its version stays: that depends on what is in the files, not on where they lie.

    Raises:
        ModelUnusableError: the tower cannot be had.
        StorageError: the store refused or broke.
    """
    if planned.tower is None:
        return
    store.upload(f"{folder}/{OWN_TOWER}", _tower_folder(planned.tower))
    path = f"{folder}/{FILE}"
    settings = json.loads(store.get(path)) if store.exists(path) else {}
    store.put(path, json.dumps({**settings, TOWER: OWN_TOWER}, indent=2).encode())


def local_folder(source: str, s3: S3Settings) -> Path:
    """Return a folder on this machine that holds a model, fetched if need be.

    Raises:
        ModelUnusableError: there is no such model.
        StorageError: the store refused or broke.
    """
    return _find(source, s3)[1]


def plan_model(source: str, s3: S3Settings, precision: Precision) -> PlannedModel:
    """Find a model and tell its version and settings, reading its files but loading nothing.

    Raises:
        ModelUnusableError: there is no such model, or its files are incomplete.
        StorageError: the store refused or broke.
    """
    pinned, folder = _find(source, s3)
    try:
        found = identify(folder, precision)
    except CheckpointError as error:
        raise ModelUnusableError(str(error)) from error
    return PlannedModel(pinned, found.version, found.settings_json, found.tower)


def unreachable(source: str, error: Exception) -> ModelUnusableError:
    """Say that a hub id leads nowhere."""
    reason = str(error).strip().split("\n")[0]
    return ModelUnusableError(
        f"model {source}: neither a folder here, nor in the hub's cache, nor to be had from "
        f"the hub ({reason})"
    )


def hub_id(source: str) -> tuple[str, str | None]:
    """Take a hub id apart: name and revision.

    Raises:
        ModelUnusableError: it is none, and no folder, or it would have been taken for one.
    """
    if HUB_ID.fullmatch(source) is None:
        raise ModelUnusableError(
            f"model {source}: there is no such folder; give a folder, s3://BUCKET/PREFIX or a "
            "hub id such as ORGANIZATION/NAME@REVISION"
        )
    return split_revision(source)


def _find(source: str, s3: S3Settings) -> tuple[str, Path]:
    """Return where the model lies for good, and a folder on this machine that holds it."""
    if source.startswith("s3://"):
        return source, _from_store(open_store(source, s3))
    folder = Path(source).expanduser()
    if folder.is_dir():
        return str(folder.resolve()), folder.resolve()
    return _from_hub(source, *hub_id(source))


def _from_hub(source: str, name: str, revision: str | None) -> tuple[str, Path]:
    from huggingface_hub import snapshot_download  # noqa: PLC0415

    try:
        folder = Path(
            snapshot_download(
                name, revision=revision, allow_patterns=HUB_FILES, ignore_patterns=HUB_UNUSED
            )
        )
    except HUB_ERRORS as error:
        raise unreachable(source, error) from error
    return f"{name}@{folder.name}", folder


def stored_files(store: Store) -> tuple[list[ObjectInfo], Path]:
    """List a model's files in a store, and tell the folder that holds them once they were fetched.

    Raises:
        ModelUnusableError: there are none.
        StorageError: the store refused or broke.
    """
    files = list(store.list())
    if not files:
        raise ModelUnusableError(f"model {store.uri}: there is nothing below this address")
    return files, _cache() / _content_name(store, files)


def _from_store(store: Store) -> Path:
    files, folder = stored_files(store)
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as part:
            _download(store, files, Path(part, "model"))
            _move(Path(part, "model"), folder)
    return folder


def _download(store: Store, files: list[ObjectInfo], folder: Path) -> None:
    for file in files:
        relative = file.uri.removeprefix(f"{store.uri}/")
        (folder / relative).parent.mkdir(parents=True, exist_ok=True)
        with (folder / relative).open("wb") as written:
            for start in range(0, file.size, PIECE_BYTES):
                end = min(start + PIECE_BYTES, file.size)
                written.write(store.get_range(relative, start, end))


def _move(part: Path, folder: Path) -> None:
    try:
        part.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another replica on this machine was faster
            raise


def _content_name(store: Store, files: list[ObjectInfo]) -> str:
    listing = "\n".join(f"{file.uri} {file.size} {file.etag}" for file in files)
    return hashlib.sha256(f"{store.uri}\n{listing}".encode()).hexdigest()[:32]


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root, "readloop", "models")
