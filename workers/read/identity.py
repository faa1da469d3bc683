"""Which model a folder holds, told without loading it: no torch here, drivers ask this too."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.read.errors import CheckpointError
from workers.read.files import INDEXES, SINGLES, read_json, weight_files
from workers.read.hub import HUB_ERRORS, split_revision
from workers.read.settings import FILE, TOWER, read_settings, settings_json

TOWER_FILES = ("config.json", "preprocessor_config.json")
TOWER_PATTERNS = (*TOWER_FILES, *SINGLES, *INDEXES)
"""What a vision tower needs of its repository."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells a checkpoint and its use from all others.

    ``version`` and ``settings_json`` are those of an engine loaded from there. ``tower`` is the hub
    id and commit of its vision tower, None if that lies in a folder.
    """

    version: str
    settings_json: str
    tower: str | None


def download_tower(name: str) -> Path:
    """Fetch a vision tower from the hub; returns its folder in the hub's cache.

    ``name`` may end in ``@`` and a revision; the folder is named after its commit.

    Raises:
        OSError, ValueError, httpx2.HTTPError: it is neither there nor in the cache.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415  (takes long to import)

    repository, revision = split_revision(name)
    return Path(snapshot_download(repository, revision=revision, allow_patterns=[*TOWER_PATTERNS]))


class _HubTower:
    """Gets a named tower from the hub, and keeps how it is called there."""

    def __init__(self) -> None:
        self.source: str | None = None

    def __call__(self, name: str) -> Path:
        folder = download_tower(name)
        self.source = f"{split_revision(name)[0]}@{folder.name}"
        return folder


def identify(folder: str | Path, precision: str) -> Identity:
    """Identify a checkpoint, and fetch its vision tower from the hub if need be.

    Raises:
        CheckpointError: see :func:`fingerprint`.
    """
    folder = Path(folder)
    llava = read_json(folder / "config.json")
    settings, own_tower = read_settings(folder, llava)
    hub = _HubTower()
    tower = tower_folder(folder, llava, own_tower, None, hub)
    return Identity(
        fingerprint(folder, clip=tower), settings_json(settings, precision=precision), hub.source
    )


def fingerprint(folder: str | Path, *, clip: str | Path | None = None) -> str:
    """Hash the contents of a checkpoint to 16 hex digits: its version.

    Weights, sizes, tokenizer and tower count; ``readloop.json`` does not, its settings are
    recorded by themselves.

    Raises:
        CheckpointError: a file is missing, unreadable or holds a wrong setting.
    """
    folder = Path(folder)
    llava = read_json(folder / "config.json")
    tower = tower_folder(folder, llava, read_settings(folder, llava)[1], clip)
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


def tower_folder(
    folder: Path,
    llava: dict[str, Any],
    own: str | None,
    override: str | Path | None,
    from_hub: Callable[[str], Path] = download_tower,
) -> Path:
    """Find the vision tower: ``override``, else the folder's ``own``, else as ``llava`` names it.

    ``from_hub`` gets a tower by the name that it has there, and raises :data:`HUB_ERRORS`.

    Raises:
        CheckpointError: there is no such folder.
    """
    if override is not None:
        place = Path(override)
    elif own is not None:
        place = folder / own
    else:
        return _named_tower(folder, llava, from_hub)
    if not place.is_dir():
        raise CheckpointError(f"{place}: no such folder; the vision tower was expected there")
    return place


def _named_tower(folder: Path, llava: dict[str, Any], from_hub: Callable[[str], Path]) -> Path:
    """Folder of the tower that ``config.json`` names: a folder, or a hub name."""
    name = llava.get("vision_tower") or llava.get("mm_vision_tower")
    if not name or not isinstance(name, str):
        raise CheckpointError(f"{folder / 'config.json'}: names no 'vision_tower'")
    if Path(name).is_dir():
        return Path(name)
    try:
        return from_hub(name)
    except HUB_ERRORS as error:
        raise CheckpointError(
            f"{folder / 'config.json'}: vision tower {name!r} is neither a folder nor to be had "
            f'from the hub; write {{"{TOWER}": "FOLDER"}} into {folder / FILE}'
        ) from error
