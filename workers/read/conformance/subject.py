"""What is checked: a folder of recorded cases, and the model and tokenizer that it brings."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from workers.read.checkpoint import load_model
from workers.read.errors import ReadError
from workers.read.images import decode
from workers.read.model import ReadModel
from workers.read.tokenizer import ReadTokenizer

MAX_PIXELS = 1_000_000_000
PERSONS = {"llava_v1": "human", "vicuna_v1": "user"}
"""The original's names of the two system sentences, and ours."""


@dataclass(frozen=True)
class Subject:
    """A folder with ``manifest.json``, ``checkpoint/``, ``clip/`` and ``goldens/``.

    ``checkpoint_st/`` and ``clip_full/`` are other forms of the same weights; they serve where
    the first form is missing.
    """

    folder: Path

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The list of cases.

        Raises:
            ReadError: it is missing or no JSON.
        """
        path = self.folder / "manifest.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ReadError(f"{path}: no list of recorded cases ({error})") from error

    @cached_property
    def model(self) -> ReadModel:
        """The checkpoint in float32 on the CPU, which the tolerances are made for."""
        return load_model(self.checkpoint, clip=self.tower)

    @cached_property
    def tokenizer(self) -> ReadTokenizer:
        """The checkpoint's tokenizer."""
        return ReadTokenizer.from_folder(self.checkpoint)

    @property
    def checkpoint(self) -> Path:
        """The folder of the model."""
        return self._first("checkpoint", "checkpoint_st")

    @property
    def tower(self) -> Path:
        """The folder of its vision tower."""
        return self._first("clip", "clip_full")

    def _first(self, *names: str) -> Path:
        folders = [self.folder / name for name in names]
        return next((folder for folder in folders if folder.is_dir()), folders[0])

    def kinds(self) -> dict[str, str]:
        """Every recorded file with its kind."""
        files = self.manifest.get("files", {})
        return {name: entry.get("kind", "none") for name, entry in files.items()}

    def files(self, *kinds: str) -> list[str]:
        """Names of the recorded files of these kinds."""
        return [name for name, kind in self.kinds().items() if kind in kinds]

    def entry(self, part: str, key: str, value: str) -> dict[str, Any]:
        """The entry of list ``part`` of the manifest whose ``key`` is ``value``.

        Raises:
            ReadError: there is none.
        """
        for entry in self.manifest.get(part, []):
            if entry[key] == value:
                return entry
        raise ReadError(f"the manifest's list {part!r} does not tell about {value}")

    def recorded(self, file: str) -> dict[str, np.ndarray]:
        """All arrays of a recorded ``.npz`` file."""
        path = self.folder / "goldens" / file
        with path.open("rb") as stream, np.load(stream) as arrays:
            return dict(arrays)

    def text(self, file: str) -> dict[str, Any]:
        """A recorded JSON file."""
        return json.loads((self.folder / "goldens" / file).read_text(encoding="utf-8"))

    def image(self, place: str) -> np.ndarray:
        """An input image (H, W, 3), decoded."""
        return decode((self.folder / "goldens" / place).read_bytes(), MAX_PIXELS)
