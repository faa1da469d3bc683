"""Folders of small pictures with a class for each pixel, as the loop on photographs takes them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workers.scenes import render

SIDE = 96
CLASSES = ("ground", "thing", "hole")
VOID = 9

WriteSet = Callable[..., Path]


@pytest.fixture
def write_set(tmp_path: Path) -> WriteSet:
    """Return a writer of generated scenes as photographs: all is ground but for its objects.

    Objects are "thing", nothing is ever "hole", and the first rows of pixels are void. Each picture
    is a drive of its own.
    """
    (tmp_path / "classes.json").write_text(json.dumps({"classes": CLASSES, "void": VOID}))

    def write(name: str, count: int, seed: int = 5) -> Path:
        folder = tmp_path / name
        for part in ("images", "labels"):
            (folder / part).mkdir(parents=True)
        for index in range(count):
            scene = render(seed, index, max_side=SIDE)
            labels = scene.masks.any(axis=0).astype(np.uint8)
            labels[:4] = VOID
            stem = f"{chr(97 + index)}_1"
            Image.fromarray(scene.image).save(folder / "images" / f"{stem}.png")
            Image.fromarray(labels).save(folder / "labels" / f"{stem}.png")
        return folder

    return write
