"""Scenes as files: pictures, a manifest to label from, and the true masks."""

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from PIL import Image

from workers.scenes.difficulty import EASY, Difficulty
from workers.scenes.records import Query, Scene
from workers.scenes.render import deny_more, describe, render

MANIFEST_FIELDS = ("image", "query", "label", "id", "group")
TRUTH_FIELDS = ("id", "mask", "kind", "present", "denial")
MOST_ADDED = 2
"""Queries that a scene may get beside its own: some scenes allow none about absent objects."""


def write_scenes(
    seed: int,
    count: int,
    out: str | Path,
    difficulty: Difficulty = EASY,
    image_format: Literal["png", "jpg"] = "png",
) -> Path:
    """Write ``count`` scenes of a seed under ``out`` and return the manifest's path.

    ``images/`` holds the pictures and ``masks/`` one 0/255 PNG of the picture's size a query (all
    0 when the object is absent). ``manifest.csv`` has one row a query and is ready to be labeled
    from: image (relative to the manifest), query, label (different for the queries of a picture),
    id, group (the scene). ``truth.csv`` holds for each id its mask, kind of query, whether it is
    present, and the denial to answer if not.

    Raises:
        ValueError: ``count`` is not positive, or the difficulty does not fit into a picture.
    """
    if count < 1:
        message = f"count is {count}: ask for at least one scene"
        raise ValueError(message)
    folder = Path(out)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    rows, truths = [], []
    for index, queries in enumerate(_asked(seed, count, difficulty)):
        scene = replace(render(seed, index, difficulty), queries=queries)
        image = f"images/{_name(scene)}.{image_format}"
        Image.fromarray(scene.image).save(folder / image, quality=92)
        rows += [
            _row(scene, number, query) | {"image": image} for number, query in _numbered(scene)
        ]
        truths += [_truth(folder, scene, number, query) for number, query in _numbered(scene)]
    _write(folder / "truth.csv", TRUTH_FIELDS, truths)
    return _write(folder / "manifest.csv", MANIFEST_FIELDS, rows)


def _asked(seed: int, count: int, difficulty: Difficulty) -> list[tuple[Query, ...]]:
    """Return each scene's queries, with more about absent objects where too few were drawn."""
    asked = [describe(seed, index, difficulty)[2] for index in range(count)]
    total = sum(len(queries) for queries in asked)
    absent = sum(not query.present for queries in asked for query in queries)
    least = difficulty.least_absent
    lacking = max(0, math.ceil((least * total - absent) / (1 - least)))
    for index, queries in enumerate(asked):
        if lacking:
            asked[index] = deny_more(seed, index, difficulty, min(lacking, MOST_ADDED))
            lacking -= len(asked[index]) - len(queries)
    return asked


def _numbered(scene: Scene) -> Iterator[tuple[int, Query]]:
    return enumerate(scene.queries, start=1)


def _name(scene: Scene) -> str:
    return f"scene-{scene.seed}-{scene.index:05d}"


def _row(scene: Scene, number: int, query: Query) -> dict[str, str]:
    name = _name(scene)
    return {
        "query": query.text,
        "label": f"query {number}",
        "id": f"{name}-{number}",
        "group": name,
    }


def _truth(folder: Path, scene: Scene, number: int, query: Query) -> dict[str, str]:
    """Write one query's true mask and return its row."""
    identity = f"{_name(scene)}-{number}"
    mask = f"masks/{identity}.png"
    Image.fromarray(scene.mask(query)).convert("L").save(folder / mask)
    return {
        "id": identity,
        "mask": mask,
        "kind": query.kind,
        "present": str(query.present).lower(),
        "denial": query.denial,
    }


def _write(path: Path, fields: Sequence[str], rows: Sequence[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, fields)
        table.writeheader()
        table.writerows(rows)
    return path
