"""Reading back finds every way in which Label Studio can differ from the table."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from labelstudio import brush
from labelstudio.publishing.payload import tasks_of
from labelstudio.publishing.showing import Showing
from labelstudio.publishing.verify import verify
from labelstudio.settings import LabelStudioSettings
from pipeline.records import Prediction

SETTINGS = LabelStudioSettings(url="http://127.0.0.1:8080", project="street")
Tasks = list[dict[str, Any]]
Change = Callable[[Tasks], object]


@pytest.fixture
def rows(prediction: Callable[..., Prediction]) -> list[Prediction]:
    """One picture with a road and without a car."""
    return [prediction("road"), prediction("car", present=False)]


@pytest.fixture
def tasks(rows: list[Prediction]) -> Tasks:
    """What the server would answer for them."""
    bodies = [json.loads(task.body("/a.png")) for task in tasks_of(rows, "street", SETTINGS)]
    return [{"id": number, **body} for number, body in enumerate(bodies)]


def _result(tasks: Tasks) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = tasks[0]["predictions"][0]["result"]
    return result


def _first(tasks: Tasks, kind: str) -> dict[str, Any]:
    return next(region for region in _result(tasks) if region["type"] == kind)


def _flip_mask(tasks: Tasks) -> None:
    region = _first(tasks, "brushlabels")
    alpha = brush.decode(
        region["value"]["rle"], region["original_height"], region["original_width"]
    )
    alpha[0, 0] = 255 - alpha[0, 0]
    region["value"]["rle"] = brush.encode(alpha)


CHANGES: dict[str, tuple[Change, str]] = {
    "no task": (lambda tasks: tasks.clear(), "is on no task"),
    "twice": (lambda tasks: tasks.append({**copy.deepcopy(tasks[0]), "id": 9}), "another task too"),
    "another image": (lambda tasks: tasks[0]["data"].update(key="other"), "another image's"),
    "blank": (lambda tasks: tasks[0]["data"].update(arm="blank"), "to be blank but shows"),
    "no mask": (lambda tasks: _result(tasks).remove(_first(tasks, "brushlabels")), "0 masks"),
    "one pixel": (_flip_mask, "in 1 pixels"),
    "other verdict": (
        lambda tasks: _first(tasks, "choices")["value"].update(choices=["wrong"]),
        "the verdict is not 'present'",
    ),
    "no point": (
        lambda tasks: _result(tasks).remove(_first(tasks, "keypointlabels")),
        "of the table's",
    ),
    "moved point": (
        lambda tasks: _first(tasks, "keypointlabels")["value"].update(x=99.0, y=99.0),
        "pixels off",
    ),
    "orphan": (
        lambda tasks: _first(tasks, "keypointlabels").update(parentID="x"),
        "does not ask for keypointlabels",
    ),
    "other size": (
        lambda tasks: _first(tasks, "choices").update(original_width=1),
        "the image is 64 x 48",
    ),
}


def test_equal_contents_have_no_differences(rows: list[Prediction], tasks: Tasks) -> None:
    found = verify(rows, tasks, SETTINGS.points_per_sign, "street")
    assert found.differences == ()
    assert (found.images, found.tasks, found.masks, found.absent) == (1, 1, 1, 1)
    assert found.points == sum(region["type"] == "keypointlabels" for region in _result(tasks))


@pytest.mark.parametrize("name", CHANGES)
def test_a_difference_is_named(rows: list[Prediction], tasks: Tasks, name: str) -> None:
    change, message = CHANGES[name]
    change(tasks)
    assert message in "\n".join(verify(rows, tasks, SETTINGS.points_per_sign, "street").differences)


def test_a_task_that_the_table_does_not_ask_for_is_a_difference(
    rows: list[Prediction], tasks: Tasks
) -> None:
    assert "does not ask for" in "\n".join(verify(rows[:1], tasks, 4, "street").differences)


def test_what_another_model_version_said_is_left_alone(
    rows: list[Prediction], tasks: Tasks
) -> None:
    older = {**copy.deepcopy(tasks[0]["predictions"][0]), "model_version": "older"}
    tasks[0]["predictions"].append(older)
    assert verify(rows, tasks, SETTINGS.points_per_sign, "street").differences == ()


def test_what_is_withheld_from_a_blank_task_is_no_difference(rows: list[Prediction]) -> None:
    blank = Showing(arm=lambda _: "blank")
    bodies = [json.loads(task.body("/a.png")) for task in tasks_of(rows, "street", SETTINGS, blank)]
    tasks = [{"id": number, **body} for number, body in enumerate(bodies)]
    assert [task["predictions"] for task in tasks] == [[]]
    assert verify(rows, tasks, 4, "street").differences == ()
    assert verify(rows, [], 4, "street").differences
