"""Scenes as files: pictures, a manifest to label from, and the true masks."""

import csv
from pathlib import Path
from typing import Literal

from PIL import Image

from workers.scenes.difficulty import EASY, Difficulty
from workers.scenes.records import Query, Scene
from workers.scenes.render import render

MANIFEST_FIELDS = ("image", "query", "label", "id", "group", "mask", "present", "kind", "denial")


def write_scenes(
    seed: int,
    count: int,
    out: str | Path,
    difficulty: Difficulty = EASY,
    image_format: Literal["png", "jpg"] = "png",
) -> Path:
    """Write ``count`` scenes of a seed under ``out`` and return the manifest's path.

    ``images/`` holds the pictures, ``masks/`` one 0/255 PNG of the picture's size a query (all 0
    when the object is absent), and ``manifest.csv`` one row a query: image (relative to the
    manifest), query, label (the kind of query), id, group (the scene), and the truth.

    Raises:
        ValueError: ``count`` is not positive, or the difficulty does not fit into a picture.
    """
    if count < 1:
        message = f"count is {count}: ask for at least one scene"
        raise ValueError(message)
    folder = Path(out)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    path = folder / "manifest.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, MANIFEST_FIELDS)
        table.writeheader()
        for index in range(count):
            scene = render(seed, index, difficulty)
            image = f"images/{_name(scene)}.{image_format}"
            Image.fromarray(scene.image).save(folder / image, quality=92)
            for number, query in enumerate(scene.queries):
                table.writerow(_row(folder, scene, number, query) | {"image": image})
    return path


def _name(scene: Scene) -> str:
    return f"scene-{scene.seed}-{scene.index:05d}"


def _row(folder: Path, scene: Scene, number: int, query: Query) -> dict[str, str]:
    """Write one query's true mask and return its row."""
    identity = f"{_name(scene)}-{number}"
    mask = f"masks/{identity}.png"
    Image.fromarray(scene.mask(query)).convert("L").save(folder / mask)
    return {
        "query": query.text,
        "label": query.kind,
        "id": identity,
        "group": _name(scene),
        "mask": mask,
        "present": str(query.present).lower(),
        "kind": query.kind,
        "denial": query.denial,
    }
