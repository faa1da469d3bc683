"""What a task is held to before it is sent.

Label Studio stores streams that do not decode, wrong sizes and repeated ids without a word, and
an annotator meets them as an empty picture; so they are found here.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from labelstudio import brush
from labelstudio.interface import Control
from labelstudio.publishing.payload import Regions, TaskPayload
from pipeline.errors import LabelStudioError

_LABEL_KEYS = {
    "brushlabels": "BrushLabels",
    "keypointlabels": "KeyPointLabels",
    "choices": "Choices",
}


def check_task(task: TaskPayload, controls: Mapping[str, Control]) -> None:
    """Make sure that a task fits the interface and shows what the table holds.

    Raises:
        LabelStudioError: it does not; names the image and the region.
    """
    regions = [region for part in task.parts for region in part.regions]
    ids = [region["id"] for region in regions]
    _demand(task, len(set(ids)) == len(ids), "two regions have the same id")
    parents = {region["id"] for region in regions if region["type"] == "brushlabels"}
    for region in regions:
        _check_names(task, region, controls)
        if region["type"] == "keypointlabels":
            inside = all(0 <= region["value"][axis] <= 100 for axis in "xy")  # noqa: PLR2004
            _demand(task, inside, f"the point {region['id']} lies outside of the image")
            _demand(task, region["parentID"] in parents, f"{region['id']} has no mask above it")
    for part in task.parts:
        _check_part(task, part)


def _check_names(
    task: TaskPayload, region: Mapping[str, Any], controls: Mapping[str, Control]
) -> None:
    kind = region["type"]
    control = controls.get(region["from_name"])
    known = control is not None and (control.tag, control.to_name) == (
        _LABEL_KEYS[kind],
        region["to_name"],
    )
    _demand(task, known, f"the interface has no {kind} called {region['from_name']!r}")
    labels = control.labels if control else frozenset()
    _demand(task, labels.issuperset(region["value"][kind]), f"no label {region['value'][kind]!r}")


def _check_part(task: TaskPayload, part: Regions) -> None:
    row = part.prediction
    sizes = {(region["original_width"], region["original_height"]) for region in part.regions}
    _demand(task, sizes == {(row.width, row.height)}, f"{row.label!r} has another size")
    drawn = [region for region in part.regions if region["type"] == "brushlabels"]
    _demand(task, len(drawn) == int(row.present), f"{row.label!r} needs one mask if present")
    for region in drawn:
        try:
            alpha = brush.decode(region["value"]["rle"], row.height, row.width)
        except brush.BrushError as error:
            raise _unfit(task, f"the mask of {row.label!r} does not decode: {error}") from error
        same = part.mask is not None and np.array_equal(alpha > brush.PAINTED_ABOVE, part.mask)
        _demand(task, same, f"the mask of {row.label!r} decodes to another one")


def _demand(task: TaskPayload, true: bool, reason: str) -> None:
    if not true:
        raise _unfit(task, reason)


def _unfit(task: TaskPayload, reason: str) -> LabelStudioError:
    return LabelStudioError(f"the task for {task.image} was not sent: {reason}")
