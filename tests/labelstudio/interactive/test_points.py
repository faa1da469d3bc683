"""Which points count: shown and hidden, saved and seen, of whom, and what must not be lost."""

import pytest

from labelstudio.interactive.backend import Backend
from labelstudio.interface import ASKED
from labelstudio.publishing.payload import region_id
from labelstudio.publishing.spread import shown_points
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


def test_nothing_touched_is_all_stored_points(
    backend: Backend, rows: tuple[Prediction, Prediction], masks: MaskMaker
) -> None:
    answered(backend, message(rows, [*regions(rows[0], "+"), click("new", "road +", 50, 75)]))
    assert masks.kept == [tuple(range(len(rows[0].points)))]


@pytest.mark.parametrize("change", ["dragged", "removed", "flipped"])
def test_hidden_points_go_with_the_shown_one_they_follow(
    backend: Backend, rows: tuple[Prediction, Prediction], masks: MaskMaker, change: str
) -> None:
    road = rows[0]
    shown = [place for place in shown_points(road.points, 4) if road.points[place].label == 1]
    hidden = {i for i, point in enumerate(road.points) if point.label == 1} - set(shown)
    assert hidden
    first, *others = regions(road, "+")
    context = [*others, click("new", "road -", 90, 90)]
    if change == "dragged":
        moved = {**first, "value": {**first["value"], "x": 99.0}}
        context = [moved, *others, click("new", "road +", 90, 90)]
    elif change == "removed":
        context = [*others, click("new", "road +", 90, 90)]
    else:
        flip = {**first, "value": {**first["value"], "keypointlabels": ["road -"]}}
        context = [*regions(road, "-"), flip, click("new", "road -", 90, 90)]
    answered(backend, message(rows, context))
    (kept,), (placed,) = masks.kept, masks.placed
    gone = set(range(len(road.points))) - set(kept)
    assert shown[0] in gone
    assert not gone & set(shown[1:])
    assert all(road.points[place].label == 1 for place in gone)
    assert len(placed) == (1 if change == "removed" else 2)
    assert [sign for *_, sign in placed].count(0) == (2 if change == "flipped" else 0)


def test_the_other_sign_is_read_from_the_draft(
    backend: Backend, rows: tuple[Prediction, Prediction], masks: MaskMaker
) -> None:
    settled = {**click("old", "road -", 10, 10), "parentID": region_id(rows[0].key, "mask")}
    del settled["is_positive"]
    draft = {"id": 3, "updated_at": "2", "result": [*regions(rows[0], "-")[1:], settled]}
    answered(backend, message(rows, [click("new", "road +", 50, 75)], [draft]))
    assert (6.4, pytest.approx(4.8), 0) in masks.placed[0]
    negatives = [i for i, point in enumerate(rows[0].points) if point.label == 0]
    assert set(negatives) - set(masks.kept[0])  # the removed one and those that follow it


@pytest.mark.parametrize("mine", [True, False])
def test_an_annotation_counts_only_for_who_works_on_it(
    backend: Backend, rows: tuple[Prediction, Prediction], masks: MaskMaker, mine: bool
) -> None:
    plus, minus = regions(rows[0], "+"), regions(rows[0], "-")
    old = {"id": 1, "updated_at": "2", "result": [*plus[1:], *minus[1:]]}
    other = {"id": 2, "updated_at": "3", "result": [*plus[2:], *minus[2:]]}
    shown = plus[1:] if mine else plus
    body = message(rows, [*shown, click("new", "road +", 50, 75)])
    body["tasks"][0]["annotations"] = [old, other]
    answered(backend, body)
    negatives = [i for i in shown_points(rows[0].points, 4) if rows[0].points[i].label == 0]
    assert [i for i in negatives if i not in masks.kept[0]] == (negatives[:1] if mine else [])


@pytest.mark.parametrize(
    "broken", [{"id": "p" * 65}, {"value": {"x": 1, "y": 1, "keypointlabels": ["road"]}}]
)
def test_an_annotation_of_another_form_keeps_nobody_from_work(
    backend: Backend, rows: tuple[Prediction, Prediction], masks: MaskMaker, broken: Json
) -> None:
    plus, minus = regions(rows[0], "+"), regions(rows[0], "-")
    old = {"id": 1, "updated_at": "2", "result": [*plus[1:], *minus[1:]]}
    odd = {"id": 2, "updated_at": "3", "result": [{**plus[0], **broken}]}
    body = message(rows, [*plus[1:], click("new", "road +", 50, 75)])
    body["tasks"][0]["annotations"] = [old, odd]
    answered(backend, body)
    negatives = [i for i in shown_points(rows[0].points, 4) if rows[0].points[i].label == 0]
    assert [i for i in negatives if i not in masks.kept[0]] == negatives[:1]


def test_a_question_of_an_annotation_counts_where_its_points_do_not(
    backend: Backend, rows: tuple[Prediction, Prediction]
) -> None:
    body = message(rows, [click("new", f"{ASKED} -", 50, 75)])
    asked = {"id": 1, "updated_at": "2", "result": [question("a dog")]}
    body["tasks"][0]["annotations"] = [asked]
    mask, _ = answered(backend, body)
    assert mask["value"]["brushlabels"] == [ASKED]


def test_points_seen_since_the_draft_was_saved_count(
    backend: Backend, rows: tuple[Prediction, Prediction], masks: MaskMaker
) -> None:
    answered(backend, message(rows, [click("minus", "road -", 10, 10)]))
    answered(backend, message(rows, [click("plus", "road +", 50, 75)]))
    assert {sign for *_, sign in masks.placed[1]} == {0, 1}
    saved = {"id": 3, "updated_at": "2", "result": []}  # the point was removed meanwhile
    answered(backend, message(rows, [click("again", "road +", 50, 75)], [saved]))
    assert {sign for *_, sign in masks.placed[2]} == {1}


def test_alt_click_is_the_other_sign(
    backend: Backend, rows: tuple[Prediction, Prediction], masks: MaskMaker
) -> None:
    _, point = answered(backend, message(rows, [click("new", "road +", 50, 75, alt=True)]))
    assert point["value"]["keypointlabels"] == ["road -"]
    assert masks.placed == [((32.0, 36.0, 0),)]


def test_an_alt_click_is_added_to_the_points_of_the_other_sign(
    backend: Backend, rows: tuple[Prediction, Prediction], masks: MaskMaker
) -> None:
    plus, minus = regions(rows[0], "+"), regions(rows[0], "-")
    answered(backend, message(rows, [*plus, click("first", "road +", 50, 75, alt=True)]))
    answered(backend, message(rows, [*plus, click("second", "road +", 25, 75, alt=True)]))
    assert masks.kept == [tuple(range(len(rows[0].points)))] * 2
    assert masks.placed[1] == ((32.0, 36.0, 0), (16.0, 36.0, 0))
    answered(backend, message(rows, [*minus[1:], click("third", "road -", 50, 25, alt=True)]))
    positives = {i for i, point in enumerate(rows[0].points) if point.label == 1}
    assert positives < set(masks.kept[2]) < set(masks.kept[1])
    assert masks.placed[2] == ((32.0, 12.0, 1),)


def test_an_alt_click_that_no_answer_held_counts_beside_the_points_of_its_sign(
    backend: Backend, rows: tuple[Prediction, Prediction], masks: MaskMaker
) -> None:
    plus, minus = regions(rows[0], "+"), regions(rows[0], "-")
    backend.read(message(rows, [*plus, click("first", "road +", 50, 75, alt=True)]))
    answered(backend, message(rows, [*minus, click("second", "road -", 25, 75)]))
    assert sorted(masks.placed[0]) == [(16.0, 36.0, 0), (32.0, 36.0, 0)]


def test_a_point_that_changed_its_sign_before_an_alt_click_counts_once(
    backend: Backend, rows: tuple[Prediction, Prediction], masks: MaskMaker
) -> None:
    plus, (first, *others) = regions(rows[0], "+"), regions(rows[0], "-")
    answered(backend, message(rows, [*plus, click("new", "road +", 50, 25)]))
    answered(backend, message(rows, [first, *others, click("minus", "road -", 50, 75)]))
    flipped = {**first, "value": {**first["value"], "keypointlabels": ["road +"]}}
    answered(backend, message(rows, [*plus, flipped, click("alt", "road +", 25, 75, alt=True)]))
    assert sorted(sign for *_, sign in masks.placed[2]) == [0, 0, 1]


def test_a_point_that_no_answer_held_comes_with_the_next_one(
    backend: Backend, rows: tuple[Prediction, Prediction]
) -> None:
    backend.read(message(rows, [click("dropped", "sky -", 10, 10)]))  # superseded: never answered
    found = answered(backend, message(rows, [click("new", "road +", 50, 75)]))
    assert [region["id"] for region in found] == [
        region_id("road-key", "mask"),
        "new",
        region_id("sky-key", "mask"),
        "dropped",
    ]
    again = answered(backend, message(rows, [click("newer", "road +", 60, 75)]))
    assert "dropped" not in [region["id"] for region in again]


def test_a_point_comes_again_if_a_later_request_made_the_browser_ignore_its_answer(
    backend: Backend, rows: tuple[Prediction, Prediction]
) -> None:
    first = backend.read(message(rows, [click("first", "road +", 50, 75)]))
    second = backend.read(message(rows, [click("second", "road -", 10, 10)]))
    for request, held in ((first, {"first", "second"}), (second, {"first", "second"})):
        (result,) = backend.answer(request)["results"]
        assert {region["id"] for region in result["result"][1:]} == held
    third = answered(backend, message(rows, [click("third", "road +", 60, 75)]))
    assert [region["id"] for region in third[1:]] == ["third"]


def test_the_answer_that_equal_requests_share_delivers_its_points(
    backend: Backend, rows: tuple[Prediction, Prediction]
) -> None:
    body = message(rows, [click("first", "road +", 50, 75)])
    request, _ = backend.read(body), backend.read(body)
    backend.answer(request)
    second = answered(backend, message(rows, [click("second", "road -", 10, 10)]))
    assert [region["id"] for region in second[1:]] == ["second"]


def test_a_point_that_nothing_can_answer_stays_and_harms_no_other_query(
    backend: Backend, rows: tuple[Prediction, Prediction]
) -> None:
    for label in (f"{ASKED} +", "car -"):  # nothing was asked yet, and there is no such query
        with pytest.raises(InputError):
            answered(backend, message(rows, [click(label, label, 10, 10)]))
    mask, *points = answered(backend, message(rows, [click("new", "road +", 50, 75)]))
    assert mask["value"]["brushlabels"] == ["road"]
    assert {point["id"]: point.get("parentID") for point in points} == {
        "new": mask["id"],
        f"{ASKED} +": None,
        "car -": None,
    }


def test_a_refused_point_that_was_deleted_does_not_come_back(
    backend: Backend, rows: tuple[Prediction, Prediction]
) -> None:
    refused, kept = click("refused", "car -", 10, 10), click("kept", "car -", 20, 10)
    with pytest.raises(InputError):
        answered(backend, message(rows, [refused, kept]))
    draft = {"id": 3, "updated_at": "2", "result": [kept]}
    found = answered(backend, message(rows, [click("new", "road +", 50, 75)], [draft]))
    assert [region["id"] for region in found[1:]] == ["new", "kept"]
