"""Small JSON files that are there whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any


def write_once(path: Path, content: Any) -> None:  # noqa: ANN401 - JSON
    """Write a file by renaming it into place; whoever finds it finds all of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_json(path: Path) -> Any:  # noqa: ANN401 - JSON
    """Return a file's content, None if it is not there."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
