"""Gestures in, regions out: what is replaced, what is asked, what is refused."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from labelstudio import brush
from labelstudio.interactive.backend import Backend
from labelstudio.interactive.memory import OPEN_POINTS, Memory
from labelstudio.interactive.request import LONGEST_QUESTION, parse
from labelstudio.interface import ASKED
from labelstudio.publishing.payload import region_id
from pipeline.errors import InputError
from pipeline.records import Prediction
from tests.labelstudio.interactive.conftest import (
    Json,
    MaskMaker,
    answered,
    click,
    message,
    question,
    regions,
)


def test_a_click_replaces_the_mask_and_keeps_the_point(
    backend: Backend, rows: tuple[Prediction, Prediction], masks: MaskMaker
) -> None:
    road = rows[0]
    context = [*regions(road, "+"), click("new", "road +", 50, 75)]
    mask, point = answered(backend, message(rows, context))
    assert (mask["id"], mask["origin"]) == (region_id(road.key, "mask"), "prediction-changed")
    assert mask["value"]["brushlabels"] == ["road"]
    drawn = brush.decode(mask["value"]["rle"], road.height, road.width) > brush.PAINTED_ABOVE
    assert np.argwhere(drawn).tolist() == [[36, 32]]
    assert (point["id"], point["parentID"]) == ("new", mask["id"])
    assert point["value"]["keypointlabels"] == ["road +"]
    assert "is_positive" not in point
    assert masks.placed == [((32.0, 36.0, 1),)]


def test_the_answer_to_a_question_holds_new_points_of_queries(
    backend: Backend, rows: tuple[Prediction, Prediction]
) -> None:
    for text, own in (("a dog", {ASKED}), ("unicorn", set())):
        backend.read(message(rows, [click(text, "road -", 50, 75)]))  # refused or superseded
        found = answered(backend, message(rows, [question(text)]))
        masks = [r["value"]["brushlabels"] for r in found if r["type"] == "brushlabels"]
        assert {name for (name,) in masks} == own | {"road"}
        assert text in [region["id"] for region in found]


def test_a_question_about_what_is_not_there_deletes_nothing(
    backend: Backend, rows: tuple[Prediction, Prediction]
) -> None:
    assert backend.answer(backend.read(message(rows, [question("unicorn")]))) == {"results": [{}]}


def test_a_question_is_answered_under_its_own_label(
    backend: Backend, rows: tuple[Prediction, Prediction]
) -> None:
    asked = {"id": "q", "type": "textarea", "from_name": "ask", "value": {"text": ["a", "a dog"]}}
    found = answered(backend, message(rows, [asked]))
    assert found[0]["value"]["brushlabels"] == [ASKED]
    assert found[0]["meta"] == {"text": ["a dog"]}
    assert {region["type"] for region in found} == {"brushlabels", "keypointlabels"}
    mask, point = answered(backend, message(rows, [click("new", f"{ASKED} -", 50, 75)]))
    assert mask["id"] == found[0]["id"]
    assert point["parentID"] == found[0]["id"]


def test_a_note_and_an_opening_task_ask_nothing(
    backend: Backend, rows: tuple[Prediction, Prediction]
) -> None:
    note = {"id": "n", "type": "textarea", "from_name": "note", "value": {"text": ["hm"]}}
    for context in ([], [note]):
        assert backend.answer(backend.read(message(rows, context))) == {"results": [{}]}


def test_a_task_that_withholds_predictions_gets_no_help(
    backend: Backend, rows: tuple[Prediction, Prediction]
) -> None:
    body = message(rows, [click("new", "road +", 50, 75)])
    body["tasks"][0]["data"]["arm"] = "blank"
    assert backend.answer(backend.read(body)) == {"results": [{}]}


def test_an_unknown_prediction_is_refused(
    backend: Backend, rows: tuple[Prediction, Prediction]
) -> None:
    strange = [replace(row, key="elsewhere") for row in rows]
    with pytest.raises(InputError, match="not in the table"):
        answered(backend, message(strange, [click("new", "road +", 50, 75)]))
    with pytest.raises(InputError, match="nothing was asked"):
        answered(backend, message(rows, [click("new", f"{ASKED} +", 50, 75)]))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body.pop("tasks"),
        lambda body: body["tasks"].append(body["tasks"][0]),
        lambda body: body["tasks"][0].update(predictions=[{"result": [{"type": "choices"}]}]),
        lambda body: body["tasks"][0]["data"].update(key="k" * 100),
        lambda body: body["params"]["context"]["result"][0]["value"].update(x=float("nan")),
        lambda body: body["params"]["context"]["result"][0]["value"].update(keypointlabels=["x"]),
        lambda body: body["params"]["context"]["result"].append("no region"),
        lambda body: body["tasks"][0].update(id=float("inf")),
        lambda body: body["params"]["context"]["result"][0]["value"].update(x=10**400),
    ],
)
def test_what_is_no_request_is_refused(
    rows: tuple[Prediction, Prediction], spoil: Callable[[Json], object]
) -> None:
    body = message(rows, [click("new", "road +", 50, 75)])
    spoil(body)
    with pytest.raises(InputError, match="not a request"):
        parse(body, most_points=50)


def test_points_are_bounded(rows: tuple[Prediction, Prediction]) -> None:
    context = [click(str(number), "road +", 1, 1) for number in range(51)]
    with pytest.raises(InputError, match="51 points are more than the limit of 50"):
        parse(message(rows, context), most_points=50)


def test_what_is_remembered_of_a_task_is_bounded(rows: tuple[Prediction, Prediction]) -> None:
    memory = Memory()
    for number in range(30):
        many = [click(f"{number} {n}", "road +", 1, 1) for n in range(50)]
        memory.see(parse(message(rows, many), most_points=50))
    last = parse(message(rows, [question("w" * 2 * LONGEST_QUESTION)]), most_points=50)
    memory.see(last)
    waiting = memory.undelivered(last)
    assert (len(waiting), waiting[-1].id) == (OPEN_POINTS, "29 49")
    assert len(memory.asked(last)) == LONGEST_QUESTION
