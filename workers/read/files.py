"""Files of a Hugging Face folder, as far as they can be found and read without torch."""

import json
from pathlib import Path

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
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: must hold a JSON object")
    return content


def weight_files(folder: Path) -> list[Path]:
    """Files that hold the folder's weights; safetensors are preferred.

    Raises:
        CheckpointError: there are none, or the index names a file that is missing or outside.
    """
    for index, single in zip(INDEXES, SINGLES, strict=True):
        if (folder / index).is_file():
            return _shards(folder, folder / index)
        if (folder / single).is_file():
            return [folder / single]
    raise CheckpointError(f"{folder}: no weights; expected one of {', '.join(SINGLES + INDEXES)}")


def _shards(folder: Path, index: Path) -> list[Path]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise CheckpointError(f"{index}: holds no 'weight_map'")
    paths = [_inside(folder, index, name) for name in sorted(set(map(str, names.values())))]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise CheckpointError(f"{missing[0]}: missing, though {index.name} names it")
    return paths


def _inside(folder: Path, index: Path, name: str) -> Path:
    """Path of a file that an index names; it must be a plain name beside the index."""
    if Path(name).name != name or name == ".." or "\\" in name:
        raise CheckpointError(f"{index}: names {name!r}, which lies outside of the folder")
    return folder / name
