"""What review decides, on a real server: blank images show nothing, and the order is by score."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import httpx
import pytest

from labelstudio.publishing.showing import Showing
from pipeline.draws import drawn
from pipeline.records import Prediction
from pipeline.review.judge import Judge
from pipeline.review.settings import ReviewSettings

pytestmark = pytest.mark.labelstudio

Make = Callable[..., Prediction]
SHARE = 0.3


def pictures(prediction: Make, *, blank: bool, how_many: int) -> Iterator[Prediction]:
    """Yield predictions of pictures that the draw makes blank, or does not."""
    rows = (prediction("road", name=f"{n}.png", image_id=f"picture {n}") for n in count())
    chosen = (row for row in rows if drawn("blank", row.image_id, SHARE) is blank)
    yield from (row for _, row in zip(range(how_many), chosen, strict=False))


def in_the_order_of(street: Any, column: str) -> list[str]:
    """Return the names of the pictures as a tab of the data manager lists them."""
    headers = {"Authorization": f"Token {street.token.get_secret_value()}"}
    with httpx.Client(base_url=street.client.url, headers=headers) as http:
        project = street.project().id
        body = {"project": project, "data": {"title": "doubtful first", "ordering": [column]}}
        view = http.post("/api/dm/views/", json=body).raise_for_status().json()["id"]
        page = http.get("/api/tasks", params={"view": view, "project": project, "page_size": 50})
    return [task["data"]["name"] for task in page.raise_for_status().json()["tasks"]]


def test_blank_images_show_nothing_and_the_lowest_score_comes_first(
    street: Any, prediction: Make
) -> None:
    sure = (0.9, 0.2, 0.6, 0.4)
    shown = [
        replace(row, predicted_iou=iou)
        for row, iou in zip(pictures(prediction, blank=False, how_many=4), sure, strict=True)
    ]
    blank = list(pictures(prediction, blank=True, how_many=2))
    judge = Judge(ReviewSettings(blank_share=SHARE), None, None)
    images = judge.for_people([[row] for row in (*blank, *shown)], {}, lambda _: None)
    street.publish(images, showing=Showing(judge.score, judge.arm, judge.name))

    tasks = {task["data"]["name"]: task for task in street.tasks()}
    assert len(tasks) == 6
    names = [row.image.rsplit("/", 1)[1] for row in (*blank, *shown)]
    for name in names[:2]:
        assert tasks[name]["data"]["arm"] == "blank"
        assert tasks[name]["predictions"] == []
    for name, row in zip(names[2:], shown, strict=True):
        assert tasks[name]["data"]["arm"] == "shown"
        (sent,) = tasks[name]["predictions"]
        assert sent["score"] == pytest.approx(judge.score([row]))

    by_doubt = [name for _, name in sorted(zip(sure, names[2:], strict=True))]
    listed = in_the_order_of(street, "tasks:predictions_score")
    assert listed[:4] == by_doubt
    assert sorted(listed[4:]) == sorted(names[:2])


def test_tasks_that_nobody_has_touched_follow_another_share(street: Any, prediction: Make) -> None:
    rows = [
        *pictures(prediction, blank=True, how_many=2),
        *pictures(prediction, blank=False, how_many=1),
    ]
    for share in (0.0, SHARE):
        judge = Judge(ReviewSettings(blank_share=share), None, None)
        images = judge.for_people([[row] for row in rows], {}, lambda _: None)
        summary = street.publish(images, showing=Showing(judge.score, judge.arm, judge.name))
    assert (summary.created, summary.replaced, summary.existing) == (0, 2, 1)
    shown = {task["data"]["arm"]: len(task["predictions"]) for task in street.tasks()}
    assert shown == {"blank": 0, "shown": 1}
