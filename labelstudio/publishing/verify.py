"""Does Label Studio hold what the table says? Its tasks, read back, region by region.

Nothing here looks at what was sent: the tasks are what the server's API answers, and masks are
decoded from it and compared with the table's, pixel by pixel.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from labelstudio import brush
from labelstudio.interface import IMAGE, negative, positive, verdict
from labelstudio.publishing.payload import region_id, task_key
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
    predictions: Sequence[Prediction],
    tasks: Sequence[Mapping[str, Any]],
    points_per_sign: int,
    run: str,
) -> Verification:
    """Compare predictions with ``tasks``, a run's tasks as the API returns them in full.

    Every prediction must stand on exactly one task of its image: its verdict as predicted and, when
    present, a mask equal to the table's at full resolution, with at most ``points_per_sign`` of the
    table's points of each sign as its children. Nothing else may stand there, unless another
    version of the model said it. Tasks of the ``blank`` arm must show nothing.
    """
    versions = frozenset(prediction.model_version for prediction in predictions)
    contents = [(task, _regions(task, versions)) for task in tasks]
    placed, differences = _place(contents, predictions)
    blank = {task["id"] for task in tasks if task["data"].get("arm") == "blank"}
    homes = _homes(predictions, tasks, run)
    for prediction in predictions:
        where = f"{prediction.image} {prediction.label!r}"
        stands = placed.get(prediction.key, {})
        withheld = bool(blank & homes[prediction.image_id]) and not stands
        problems = [] if withheld else _standing_problems(stands, homes[prediction.image_id])
        for found in stands.values():
            problems += _problems(prediction, found)
            if prediction.present:
                problems += _point_problems(prediction, found, points_per_sign)
        differences += [f"{where}: {problem}" for problem in problems]
    differences += [
        f"task {task['id']} is to be blank but shows {len(regions)} regions"
        for task, regions in contents
        if task["id"] in blank and regions
    ]
    kinds = Counter(_kind(region) for _, regions in contents for region in regions)
    return Verification(
        images=len({task["data"][IMAGE] for task in tasks}),
        tasks=len(tasks),
        masks=kinds["brushlabels"],
        points=kinds["keypointlabels"],
        absent=kinds["absent"],
        differences=tuple(differences),
    )


def _homes(
    predictions: Sequence[Prediction], tasks: Sequence[Mapping[str, Any]], run: str
) -> dict[str, set[int]]:
    """Return, for each image, the numbers of its tasks."""
    numbers = {task["data"]["key"]: int(task["id"]) for task in tasks}
    counts = Counter(prediction.image_id for prediction in predictions)
    keys = {
        image: [task_key(run, image, number) for number in range(count)]
        for image, count in counts.items()
    }
    return {
        image: {numbers[key] for key in group if key in numbers} for image, group in keys.items()
    }


def _place(
    contents: Sequence[tuple[Mapping[str, Any], Sequence[Region]]],
    predictions: Sequence[Prediction],
) -> tuple[dict[str, dict[int, list[Region]]], list[str]]:
    """Sort regions by their predictions' keys, then by task; say what cannot be sorted."""
    owners = {
        region_id(row.key, part): row.key for row in predictions for part in ("verdict", "mask")
    }
    placed: dict[str, dict[int, list[Region]]] = defaultdict(lambda: defaultdict(list))
    differences = []
    for task, regions in contents:
        for region in regions:
            owner = owners.get(region["parentID"] if "parentID" in region else region["id"])
            if owner is None:
                what = f"{_kind(region)} {region['id']}"
                differences.append(f"task {task['id']}: the table does not ask for {what}")
            else:
                placed[owner][task["id"]].append(region)
    return placed, differences


def _standing_problems(stands: Mapping[int, object], homes: set[int]) -> list[str]:
    """Say whether a prediction is on no task, several, or another image's."""
    if not stands:
        return ["is on no task"]
    problems = [f"is on task {task}, another image's" for task in stands if task not in homes]
    return problems + (["stands on another task too"] if len(stands) > 1 else [])


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
