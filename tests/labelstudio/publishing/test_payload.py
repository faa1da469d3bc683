"""Tasks made from predictions: splits, regions, ids, limits, and the check before sending."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from labelstudio import brush
from labelstudio.interface import expected_controls
from labelstudio.publishing.check import check_task
from labelstudio.publishing.payload import TaskPayload, coarse, image_digest, regions_of, tasks_of
from labelstudio.publishing.showing import Showing
from labelstudio.settings import LabelStudioSettings
from pipeline import masks
from pipeline.errors import LabelStudioError
from pipeline.records import Point, Prediction

Make = Callable[..., Prediction]
SETTINGS = LabelStudioSettings(url="http://localhost", project="street")


def tasks(*predictions: Prediction, **changes: Any) -> list[TaskPayload]:
    return tasks_of(predictions, "street", SETTINGS.model_copy(update=changes))


def kinds(task: TaskPayload) -> list[str]:
    return [region["type"] for part in task.parts for region in part.regions]


def test_one_task_holds_all_queries(prediction: Make) -> None:
    (task,) = tasks(prediction("road"), prediction("sky", present=False))
    assert kinds(task) == ["brushlabels", *["keypointlabels"] * 8, "choices", "choices"]
    data = task.data("/x.png")
    assert data["texts"] == {"road": "the road", "sky": "the sky"}
    assert data["queries"] == "road: the road\nsky: the sky"


def test_the_mask_is_the_tables(prediction: Make) -> None:
    row = prediction()
    (region, *_) = regions_of(row, SETTINGS).regions
    alpha = brush.decode(region["value"]["rle"], row.height, row.width)
    assert ((alpha > brush.PAINTED_ABOVE) == masks.decode(row.mask)).all()


def test_points_are_children_in_percent_and_unsure_ones_stay_behind(prediction: Make) -> None:
    regions = regions_of(prediction(), SETTINGS).regions
    points = [region for region in regions if region["type"] == "keypointlabels"]
    assert {region["parentID"] for region in points} == {regions[0]["id"]}
    names = [region["value"]["keypointlabels"][0] for region in points]
    assert sorted(names) == ["road +"] * 4 + ["road -"] * 4
    assert points[0]["value"]["x"] == pytest.approx(30)
    assert points[0]["value"]["y"] == pytest.approx(40)


def test_ids_follow_from_the_key_and_differ(prediction: Make) -> None:
    first, again = tasks(prediction()), tasks(prediction())
    assert first[0].body("/x") == again[0].body("/x")
    ids = [region["id"] for region in first[0].parts[0].regions]
    assert len(set(ids)) == len(ids)
    other = regions_of(prediction(key="another model's"), SETTINGS).regions
    assert not set(ids) & {region["id"] for region in other}


def test_more_queries_than_fit_are_split_in_order(prediction: Make) -> None:
    rows = [prediction(f"query {i}", present=False) for i in range(7)]
    split = tasks(*rows, queries_per_task=3)
    assert [len(task.parts) for task in split] == [3, 3, 1]
    assert [key for task in split for key in task.prediction_keys] == [row.key for row in rows]
    assert len({task.key for task in split}) == 3
    assert {task.siblings for task in split} == {3}


def test_a_label_used_twice_gets_a_task_for_each(prediction: Make) -> None:
    rows = prediction("thing"), prediction("road"), prediction("thing", key="second", query="b")
    first, second = tasks(*rows)
    assert [part.prediction.label for part in first.parts] == ["thing", "road"]
    assert second.prediction_keys == ("second",)


def ragged(height: int, width: int) -> Any:
    return masks.encode(np.random.default_rng(0).random((height, width)) < 0.5)


def test_tasks_stay_below_their_bytes(prediction: Make) -> None:
    rows = [prediction(f"query {i}", mask=ragged(40, 60), width=60, height=40) for i in range(5)]
    split = tasks(*rows, task_bytes=25_000)
    assert 1 < len(split) < 5
    assert all(len(task.body("/x" * 50)) <= 25_000 for task in split)
    assert sum(len(task.parts) for task in split) == 5


def test_a_mask_too_large_for_a_task_gets_coarser(prediction: Make) -> None:
    row = prediction(mask=ragged(200, 300), width=300, height=200)
    shown = regions_of(row, SETTINGS.model_copy(update={"task_bytes": 50_000}))
    assert shown.coarseness == 8
    assert shown.size <= 50_000
    assert shown.regions[0]["meta"]["text"] == ["shown in squares of 8 pixels"]


def test_coarse_masks_keep_their_size_and_most_of_each_square() -> None:
    mask = np.zeros((9, 14), np.bool_)
    mask[:5, :7] = True
    assert (coarse(mask, 2).shape, coarse(mask, 2)[0, 0]) == ((9, 14), True)
    assert (coarse(mask, 2) ^ mask).sum() <= 12


def test_the_score_is_the_least_sure_querys(prediction: Make) -> None:
    sure, unsure = prediction(predicted_iou=0.9), prediction("sky", predicted_iou=0.4)
    assert tasks(sure, unsure)[0].score == pytest.approx(0.4)
    assert tasks(prediction(present=False, seg_probability=0.9))[0].score == pytest.approx(0.1)
    assert tasks(prediction(predicted_iou=float("nan")))[0].score == 0
    assert json.loads(tasks(sure, unsure)[0].body("/x"))["predictions"][0]["score"] == 0.4


def test_a_showing_decides_score_and_arm(prediction: Make) -> None:
    row = prediction()
    chosen = Showing(score=lambda rows: 7.0 * len(rows), arm=lambda _: "blank", name="second")
    (task,) = tasks_of([row], "street", SETTINGS, chosen)
    body = json.loads(task.body("/x"))
    assert (task.score, body["data"]["arm"], body["predictions"]) == (1.0, "blank", [])
    (plain,) = tasks(row)
    assert plain.data("/x")["arm"] == "shown"
    assert len({task.digest, plain.digest, image_digest([row], Showing(name="second"))}) == 3


def test_a_task_says_which_rows_of_the_table_it_shows(prediction: Make) -> None:
    rows = [prediction("road"), prediction("sky", present=False)]
    (shown,) = tasks(*rows)[0].predictions()
    verdicts = {r["from_name"]: r["id"] for r in shown["result"] if r["type"] == "choices"}
    assert verdicts == {"verdict_road": rows[0].key, "verdict_sky": rows[1].key}


def test_a_good_task_passes_the_check(prediction: Make) -> None:
    (task,) = tasks(prediction("road"), prediction("sky", present=False))
    check_task(task, expected_controls(["road", "sky"]))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"from_name": "other"}, "no brushlabels called 'other'"),
        ({"original_width": 63}, "another size"),
        ({"id": "twice"}, "the same id"),
    ],
)
def test_a_wrong_region_is_found(prediction: Make, change: dict[str, Any], reason: str) -> None:
    (task,) = tasks(prediction())
    part = task.parts[0]
    regions = [dict(region) for region in part.regions]
    regions[0] |= change
    regions[1] |= {"id": "twice"} if "id" in change else {}
    wrong = replace(task, parts=(replace(part, regions=tuple(regions)),))
    with pytest.raises(LabelStudioError, match=reason):
        check_task(wrong, expected_controls(["road"]))


def test_a_wrong_mask_is_found(prediction: Make) -> None:
    (task,) = tasks(prediction())
    part = task.parts[0]
    assert part.mask is not None
    wrong = replace(task, parts=(replace(part, mask=~part.mask),))
    with pytest.raises(LabelStudioError, match="decodes to another one"):
        check_task(wrong, expected_controls(["road"]))


def test_a_label_that_the_interface_lacks_is_found(prediction: Make) -> None:
    (task,) = tasks(prediction("sky"))
    with pytest.raises(LabelStudioError, match=r"a\.png was not sent: no label"):
        check_task(task, expected_controls(["sky"]) | {"mask": expected_controls(["a"])["mask"]})


def test_points_on_the_border_stay_inside(prediction: Make) -> None:
    row = prediction(points=(Point(64.01, -0.01, 1, 0.5),))
    (task,) = tasks(row)
    check_task(task, expected_controls(["road"]))
