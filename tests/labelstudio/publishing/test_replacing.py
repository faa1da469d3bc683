"""New model versions, retractions and blank tasks on a real server; what people began stays."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labelstudio.client import LabelStudioClient
from labelstudio.publishing.retractions import Retractions
from labelstudio.publishing.showing import Showing
from pipeline.cli import run
from pipeline.errors import LabelStudioError, StoppedError
from pipeline.records import Prediction
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import open_store

pytestmark = pytest.mark.labelstudio

Images = Callable[..., list[list[Prediction]]]
TOUCHES = ("annotation", "skip", "draft")
BLANK = Showing(arm=lambda _: "blank")


def test_a_new_version_replaces_and_is_shown(street: Any, images_of: Images) -> None:
    street.publish(images_of(3))
    numbers = sorted(task["id"] for task in street.tasks())
    new = images_of(3, "tiny@2")
    summary = street.publish(new)
    assert (summary.created, summary.existing, summary.replaced) == (0, 0, 3)
    assert street.publish(new).existing == 3
    assert street.differences(new) == ()
    assert list(street.shown().values()) == [["tiny@2"]] * 3
    assert sorted(task["id"] for task in street.tasks()) == numbers
    assert street.project().model_version == "tiny@2"


def test_what_somebody_began_keeps_its_prediction(street: Any, images_of: Images) -> None:
    street.publish(images_of(4))
    numbers = {task["data"]["name"]: task["id"] for task in street.tasks()}
    for place, how in enumerate(TOUCHES):
        street.touch(numbers[f"{place}.png"], how)
    for _ in range(2):
        summary = street.publish(images_of(4, "tiny@2"))
        assert (summary.created, summary.existing + summary.replaced) == (0, 4)
    old = {f"{place}.png": ["tiny@1"] for place in range(3)}
    assert street.shown() == {**old, "3.png": ["tiny@2"]}


def test_work_that_begins_meanwhile_is_respected(
    street: Any, images_of: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    street.publish(images_of(2))
    first = min(task["id"] for task in street.tasks())
    clear = LabelStudioClient.clear_predictions

    def touch_then_clear(self: LabelStudioClient, *request: Any) -> None:
        street.touch(first, "draft")
        clear(self, *request)

    monkeypatch.setattr(LabelStudioClient, "clear_predictions", touch_then_clear)
    assert street.publish(images_of(2, "tiny@2")).replaced == 1
    assert sorted(street.shown().values()) == [["tiny@1"], ["tiny@2"]]


def test_predictions_of_others_stay(street: Any, images_of: Images) -> None:
    street.publish(images_of(1))
    (task,) = street.tasks()
    street.sdk().predictions.create(task=task["id"], model_version="theirs", result=[])
    assert street.publish(images_of(1, "tiny@2")).replaced == 1
    assert sorted(street.shown()["0.png"]) == ["theirs", "tiny@2"]
    assert street.retract("tiny@2").retracted == 1
    assert street.shown()["0.png"] == ["theirs"]


def test_a_prediction_left_by_a_kill_is_replaced_beside_one_of_others(
    street: Any, images_of: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    street.publish(images_of(1))
    (task,) = street.tasks()
    street.sdk().predictions.create(task=task["id"], model_version="theirs", result=[])
    with monkeypatch.context() as patch:
        patch.setattr(LabelStudioClient, "delete_prediction", _stop)
        with pytest.raises(StoppedError):
            street.publish(images_of(1, "tiny@2"))
    assert sorted(street.shown()["0.png"]) == ["theirs", "tiny@1"]
    monkeypatch.setattr("labelstudio.publishing.reconcile.SETTLE_SECONDS", 0)
    assert street.publish(images_of(1, "tiny@2")).replaced == 1
    assert sorted(street.shown()["0.png"]) == ["theirs", "tiny@2"]


@pytest.mark.parametrize("step", ["clear_predictions", "add_predictions", "add and forget"])
def test_a_replacement_that_was_cut_off_is_repeated(
    street: Any, images_of: Images, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class Killed(BaseException):
        pass

    street.publish(images_of(2))
    name = step if step != "add and forget" else "add_predictions"
    real = getattr(LabelStudioClient, name)

    def dying(self: LabelStudioClient, *request: Any) -> None:
        if step != "add_predictions":
            real(self, *request)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(LabelStudioClient, name, dying)
        with pytest.raises(Killed):
            street.publish(images_of(2, "tiny@2"))
    monkeypatch.setattr("labelstudio.publishing.reconcile.SETTLE_SECONDS", 0)
    new = images_of(2, "tiny@2")
    assert street.publish(new).replaced == 2
    assert street.differences(new) == ()
    assert list(street.shown().values()) == [["tiny@2"]] * 2


def test_a_refused_prediction_fails_alone(
    street: Any, images_of: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    street.publish(images_of(3))
    monkeypatch.setattr("labelstudio.publishing.writer.check_task", lambda *_: None)
    new = images_of(3, "tiny@2")
    new[1] = [replace(new[1][0], label="unknown"), new[1][1]]
    summary = street.publish(new)
    assert (summary.replaced, summary.failed) == (2, 1)
    assert "1.png" in summary.failures[0]


def test_a_retracted_version_is_gone_but_for_what_was_begun(street: Any, images_of: Images) -> None:
    street.publish(images_of(3))
    street.publish(images_of(3, "tiny@2"))
    first = min(task["id"] for task in street.tasks())
    street.touch(first, "annotation")
    summary = street.retract("tiny@2")
    assert (summary.retracted, summary.kept) == (2, 1)
    assert summary.projects == (street.project().id,)
    assert sorted(street.shown().values()) == [[], [], ["tiny@2"]]
    again = street.retract("tiny@2")
    assert (again.retracted, again.kept) == (0, 1)


def test_a_retracted_version_does_not_come_back(street: Any, images_of: Images) -> None:
    bad = images_of(2, "tiny@2")
    street.publish(bad)
    street.retract("tiny@2")
    with pytest.raises(LabelStudioError, match=r"tiny@2 was retracted on .* --undo"):
        street.publish(bad)
    assert list(street.shown().values()) == [[], []]
    assert street.publish(images_of(2, "tiny@1")).replaced == 2
    assert list(street.shown().values()) == [["tiny@1"]] * 2
    assert street.project().model_version == "tiny@1"


def test_a_retraction_can_be_undone(street: Any, images_of: Images) -> None:
    bad = images_of(1, "tiny@2")
    street.publish(bad)
    street.retract("tiny@2")
    Retractions(open_store(str(street.folder), S3Settings())).note("tiny@2", retracted=False)
    assert street.publish(bad).replaced == 1
    assert street.differences(bad) == ()


def test_publishing_finishes_a_retraction_that_was_cut_off(
    street: Any, images_of: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    street.publish(images_of(3, "tiny@2"))
    with monkeypatch.context() as patch:
        patch.setattr(LabelStudioClient, "clear_predictions", _stop)
        with pytest.raises(StoppedError):
            street.retract("tiny@2")
    summary = street.publish(images_of(1, "tiny@3"))
    assert (summary.replaced, summary.retracted, summary.existing) == (1, 2, 0)
    assert sorted(street.shown().values()) == [[], [], ["tiny@3"]]


def test_the_command_retracts_and_undoes(
    street: Any,
    images_of: Images,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    street.publish(images_of(2, "tiny@2"))
    settings = {"url": street.client.url, "project": street.settings.project}
    run_file = {
        "name": "street",
        "store": str(street.folder),
        "model": "no/model",
        "source": {"images": "photos", "queries": [{"text": "the road"}]},
        "labelstudio": settings,
    }
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps(run_file))
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", street.token.get_secret_value())
    assert run(["retract", str(path), "tiny@2", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told.pop("seconds") > 0
    project = street.project().id
    assert told == {"model_version": "tiny@2", "retracted": 2, "kept": 0, "projects": [project]}
    assert run(["retract", str(path), "tiny@2", "--undo"]) == 0
    assert "may be published again" in capfd.readouterr().out
    assert street.publish(images_of(2, "tiny@2")).replaced == 2


def test_tasks_that_an_image_no_longer_needs_are_emptied(street: Any, images_of: Images) -> None:
    images = images_of(1)
    narrow = street.settings.model_copy(update={"queries_per_task": 1})
    assert street.publish(images, settings=narrow).created == 2
    new = images_of(1, "tiny@2")
    summary = street.publish(new)
    assert (summary.created, summary.replaced, summary.retracted) == (0, 1, 1)
    assert street.differences(new) == ()
    again = street.publish(new)
    assert (again.existing, again.retracted) == (1, 0)
    assert street.publish(new, settings=narrow).existing == 1
    assert street.publish(images_of(1, "tiny@3"), settings=narrow).replaced == 2
    assert street.differences(images_of(1, "tiny@3")) == ()


def test_no_file_of_the_store_holds_the_token(street: Any, images_of: Images) -> None:
    street.publish(images_of(1))
    street.publish(images_of(1, "tiny@2"))
    street.retract("tiny@2")
    token = street.token.get_secret_value().encode()
    files = [path for path in street.folder.rglob("*") if path.is_file()]
    assert {path.relative_to(street.folder).parts[0] for path in files} == {"tasks", "retractions"}
    assert not [path for path in files if token in path.read_bytes()]


def test_another_showing_is_shown_where_nobody_has_been(street: Any, images_of: Images) -> None:
    images = images_of(2)
    street.publish(images, showing=Showing(score=lambda _: 0.1, name="first"))
    street.touch(min(task["id"] for task in street.tasks()), "draft")
    again = Showing(score=lambda _: 0.9, name="second")
    assert street.publish(images, showing=again).replaced == 1
    scores = [found["score"] for task in street.tasks() for found in task["predictions"]]
    assert sorted(scores) == [0.1, 0.9]


def _stop(*_: object) -> None:
    raise StoppedError("cut off")


def test_a_version_that_nothing_shows_is_not_retracted(street: Any, images_of: Images) -> None:
    street.publish(images_of(1))
    with pytest.raises(LabelStudioError, match=r"'tiny@11'.*show tiny@1"):
        street.retract("tiny@11")
    assert street.shown() == {"0.png": ["tiny@1"]}


def test_a_version_that_is_known_is_retracted_before_anything_shows_it(
    street: Any, images_of: Images
) -> None:
    street.publish(images_of(1))
    assert street.retract("tiny@11", known=True).retracted == 0
    assert street.shown() == {"0.png": ["tiny@1"]}
    with pytest.raises(LabelStudioError, match=r"tiny@11 was retracted"):
        street.publish(images_of(1, "tiny@11"))


def test_a_blank_task_is_sent_without_predictions(street: Any, images_of: Images) -> None:
    images = images_of(2)
    street.publish(images, showing=BLANK)
    assert [task["predictions"] for task in street.tasks()] == [[], []]
    assert {task["data"]["arm"] for task in street.tasks()} == {"blank"}
    assert street.publish(images, showing=BLANK).existing == 2
    assert street.differences(images) == ()
    street.publish(images)
    assert {task["data"]["arm"] for task in street.tasks()} == {"shown"}
    assert street.differences(images) == ()
    assert street.publish(images, showing=BLANK).replaced == 2
    assert [task["predictions"] for task in street.tasks()] == [[], []]
