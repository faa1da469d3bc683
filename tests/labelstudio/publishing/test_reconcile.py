"""What changed on a real server behind our back: noticed always, in few requests."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from labelstudio.client import LabelStudioClient
from pipeline.records import Prediction

pytestmark = pytest.mark.labelstudio

Images = Callable[..., list[list[Prediction]]]
FOREIGN = b'{"data": {"image": "/x.png", "name": "x.png", "key": "foreign"}}'


def test_deleted_tasks_are_made_again(street: Any, images_of: Images) -> None:
    street.publish(images_of(3))
    street.sdk().tasks.delete(street.tasks()[1]["id"])
    summary = street.publish(images_of(3))
    assert (summary.created, summary.existing) == (1, 2)
    assert street.differences(images_of(3)) == ()


def test_a_deleted_task_is_noticed_though_foreign_ones_join(street: Any, images_of: Images) -> None:
    street.publish(images_of(3))
    street.sdk().tasks.delete(street.tasks()[0]["id"])
    street.client.import_tasks(street.project().id, [FOREIGN, FOREIGN])
    summary = street.publish(images_of(3))
    assert (summary.created, summary.existing) == (1, 2)
    assert sorted(street.shown()) == ["0.png", "1.png", "2.png", "x.png"]


def test_a_number_that_went_to_another_task_is_noticed(street: Any, images_of: Images) -> None:
    street.publish(images_of(2))
    last = max(task["id"] for task in street.tasks())
    street.sdk().tasks.delete(last)
    assert street.client.import_tasks(street.project().id, [FOREIGN]) == [last]
    summary = street.publish(images_of(2))
    assert (summary.created, summary.existing) == (1, 1)


def test_a_task_under_another_number_is_taken_over(street: Any, images_of: Images) -> None:
    street.publish(images_of(1))
    (task,) = street.tasks()
    street.sdk().tasks.delete(task["id"])
    copied = [FOREIGN, FOREIGN.replace(b"foreign", task["data"]["key"].encode())]
    street.client.import_tasks(street.project().id, copied)
    summary = street.publish(images_of(1))
    assert (summary.created, summary.existing, summary.replaced) == (0, 0, 1)
    assert street.shown() == {"0.png": ["tiny@1"], "x.png": []}


def test_a_copy_with_its_prediction_is_written_to_from_then_on(
    street: Any, images_of: Images
) -> None:
    street.publish(images_of(1))
    (task,) = street.tasks()
    shown = [{name: p[name] for name in ("model_version", "result")} for p in task["predictions"]]
    copy = json.dumps({"data": task["data"], "predictions": shown}).encode()
    street.sdk().tasks.delete(task["id"])
    street.client.import_tasks(street.project().id, [FOREIGN, copy])
    assert street.publish(images_of(1)).existing == 1
    assert street.publish(images_of(1, "tiny@2")).replaced == 1
    assert street.shown() == {"0.png": ["tiny@2"], "x.png": []}


def test_a_lost_prediction_comes_back(street: Any, images_of: Images) -> None:
    street.publish(images_of(2))
    street.client.delete_prediction(street.tasks()[0]["predictions"][0]["id"])
    summary = street.publish(images_of(2))
    assert (summary.created, summary.existing, summary.replaced) == (0, 1, 1)
    assert street.differences(images_of(2)) == ()


def test_a_project_made_anew_gets_its_tasks_again(street: Any, images_of: Images) -> None:
    street.publish(images_of(2))
    street.sdk().projects.delete(street.project().id)
    assert street.publish(images_of(2)).created == 2
    assert street.differences(images_of(2)) == ()


def test_an_unchanged_project_is_looked_at_but_not_listed(
    street: Any, images_of: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    street.publish(images_of(3))
    counted: list[int] = []
    count = LabelStudioClient.count

    def counting(self: LabelStudioClient, *request: Any) -> int:
        counted.append(count(self, *request))
        return counted[-1]

    monkeypatch.setattr(LabelStudioClient, "count", counting)
    monkeypatch.setattr(LabelStudioClient, "select", None)
    assert street.publish(images_of(3)).existing == 3
    assert counted == [3]


def test_a_proxy_that_drops_bodies_is_noticed(
    street: Any, images_of: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = LabelStudioClient._get

    def without_body(self: LabelStudioClient, path: str, params: Any = None, _: Any = None) -> Any:
        return get(self, path, params)

    street.publish(images_of(2))
    street.sdk().tasks.delete(street.tasks()[0]["id"])
    street.client.import_tasks(street.project().id, [FOREIGN])
    monkeypatch.setattr(LabelStudioClient, "_get", without_body)
    summary = street.publish(images_of(2))
    assert (summary.created, summary.existing) == (1, 1)


def test_a_large_run_is_split(street: Any, images_of: Images) -> None:
    images = images_of(7)
    small = street.settings.model_copy(update={"tasks_per_project": 3, "batch_tasks": 2})
    summary = street.publish(images, settings=small)
    title = street.settings.project
    found = [(project.title, project.tasks) for project in street.projects()]
    assert found == [(title, 3), (f"{title} 2", 3), (f"{title} 3", 1)]
    assert summary.projects == tuple(project.id for project in street.projects())
    assert street.differences(images) == ()
    assert street.publish(images, settings=small).existing == 7
    street.sdk().projects.delete(summary.projects[1])
    assert street.publish(images, settings=small).created == 3
    new = images_of(7, "tiny@2")
    assert street.publish(new, settings=small).replaced == 7
    assert street.differences(new) == ()
    assert {project.model_version for project in street.projects()} == {"tiny@2"}
    assert street.retract("tiny@2").retracted == 7
    assert {len(task["predictions"]) for task in street.tasks()} == {0}
