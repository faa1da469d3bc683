"""Does Label Studio hold what the table says? Its tasks, read back, region by region.

Nothing here looks at what was sent: the tasks are what the server's API answers, and masks are
decoded from it and compared with the table's, pixel by pixel.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from labelstudio import brush
from labelstudio.interface import IMAGE, negative, positive, slug, verdict
from pipeline import masks
from pipeline.records import Prediction

MAX_POINT_DISTANCE = 0.01
"""Pixels by which a point may move on its way through percent of the image's sides."""

Region = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Verification:
    """What Label Studio was found to hold, and where it differs from the table."""

    images: int
    tasks: int
    masks: int
    points: int
    absent: int
    differences: tuple[str, ...]


def verify(
    predictions: Sequence[Prediction], tasks: Sequence[Mapping[str, Any]], points_per_sign: int
) -> Verification:
    """Compare predictions with ``tasks``, the project's tasks as the API returns them in full.

    Every prediction must stand on exactly one task: its verdict as predicted and, when present,
    a mask equal to the table's at full resolution, with at most ``points_per_sign`` of the table's
    points of each sign as its children. Nothing else may stand there, unless another version of
    the model said it.
    """
    versions = frozenset(prediction.model_version for prediction in predictions)
    contents = [(task, _regions(task, versions)) for task in tasks]
    placed, differences = _place(contents)
    for prediction in predictions:
        where = f"{prediction.image} {prediction.label!r}"
        found = placed.pop(prediction.key, None)
        problems = ["is on no task"] if found is None else _problems(prediction, found)
        if found is not None and prediction.present:
            problems += _point_problems(prediction, found, points_per_sign)
        differences += [f"{where}: {problem}" for problem in problems]
    differences += [f"the table does not ask for {key}" for key in placed]
    kinds = Counter(_kind(region) for _, regions in contents for region in regions)
    return Verification(
        images=len({task["data"][IMAGE] for task in tasks}),
        tasks=len(tasks),
        masks=kinds["brushlabels"],
        points=kinds["keypointlabels"],
        absent=kinds["absent"],
        differences=tuple(differences),
    )


def _place(
    contents: Sequence[tuple[Mapping[str, Any], Sequence[Region]]],
) -> tuple[dict[str, list[Region]], list[str]]:
    """Sort the tasks' regions by the keys of their predictions; say what cannot be sorted."""
    placed: dict[str, list[Region]] = {}
    differences = []
    for task, regions in contents:
        keys = task["data"]["predictions"]
        for name, key in keys.items():
            if key in placed:
                differences.append(f"task {task['id']}: {key} stands on another task too")
            placed[key] = [region for region in regions if _speaks_of(region, name, regions)]
        extra = len(regions) - sum(len(placed[key]) for key in keys.values())
        if extra:
            differences.append(f"task {task['id']}: {extra} regions belong to none of its queries")
    return placed, differences


def _regions(task: Mapping[str, Any], versions: frozenset[str]) -> list[Region]:
    return [
        region
        for prediction in task["predictions"]
        if prediction["model_version"] in versions
        for region in prediction["result"]
    ]


def _kind(region: Region) -> str:
    return _name(region) if region["type"] == "choices" else str(region["type"])


def _name(region: Region) -> str:
    """Return the one label or choice of a region."""
    (name,) = region["value"][region["type"]]
    return str(name)


def _speaks_of(region: Region, query: str, regions: Sequence[Region]) -> bool:
    """Return whether a region belongs to the query with that slug; points do by their mask."""
    if region["type"] == "choices":
        return bool(region["from_name"] == f"verdict_{query}")
    if region["type"] == "brushlabels":
        return slug(_name(region)) == query
    parents = [other for other in regions if other["id"] == region.get("parentID")]
    return any(_speaks_of(parent, query, regions) for parent in parents)


def _problems(prediction: Prediction, found: Sequence[Region]) -> list[str]:
    wanted = ["present"] if prediction.present else ["absent"]
    problems = []
    verdicts = [region for region in found if region["type"] == "choices"]
    if [_name(region) for region in verdicts] != wanted:
        problems.append(f"the verdict is not {wanted[0]!r}")
    if any(region["from_name"] != verdict(prediction.label) for region in verdicts):
        problems.append("the verdict is another query's")
    sizes = {(region["original_width"], region["original_height"]) for region in found}
    if sizes != {(prediction.width, prediction.height)}:
        problems.append(f"the image is {prediction.width} x {prediction.height}, not {sizes}")
    drawn = [region for region in found if region["type"] == "brushlabels"]
    if len(drawn) != int(prediction.present):
        return [*problems, f"{len(drawn)} masks"]
    for region in drawn:
        alpha = brush.decode(region["value"]["rle"], prediction.height, prediction.width)
        differing = int(((alpha > brush.PAINTED_ABOVE) != masks.decode(prediction.mask)).sum())
        if differing:
            problems.append(f"the mask differs from the table's in {differing} pixels")
    return problems


def _point_problems(
    prediction: Prediction, found: Sequence[Region], points_per_sign: int
) -> list[str]:
    problems = []
    for sign, name in ((1, positive(prediction.label)), (0, negative(prediction.label))):
        table = [(point.x, point.y) for point in prediction.points if point.label == sign]
        shown = [
            (region["value"]["x"] / 100, region["value"]["y"] / 100)
            for region in found
            if region["type"] == "keypointlabels" and _name(region) == name
        ]
        if len(shown) != min(points_per_sign, len(set(table))):
            problems.append(f"{len(shown)} points {name!r} of the table's {len(table)}")
        if shown and table:
            pixels = np.array(shown) * (prediction.width, prediction.height)
            distances = np.linalg.norm(pixels[:, None] - np.array(table)[None], axis=2).min(axis=1)
            if distances.max() > MAX_POINT_DISTANCE:
                problems.append(f"a point {name!r} is {distances.max():.2f} pixels off")
    named = {positive(prediction.label), negative(prediction.label)}
    points = [region for region in found if region["type"] == "keypointlabels"]
    problems += [f"a foreign point {_name(p)!r}" for p in points if _name(p) not in named]
    return problems
