"""Publishing to a real server: what arrives, and that nothing arrives twice or never."""

import secrets
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from labelstudio.client import LabelStudioClient
from labelstudio.publishing import ledger as ledger_module
from labelstudio.publishing.verify import verify
from pipeline.errors import LabelStudioError, StoppedError
from pipeline.records import Prediction

pytestmark = pytest.mark.labelstudio

Images = Callable[..., list[list[Prediction]]]


class Killed(BaseException):
    """What a kill looks like from inside: nothing after it runs."""


def test_what_arrives_is_what_the_table_says(street: Any, images_of: Images) -> None:
    images = images_of(3)
    summary = street.publish(images)
    found = verify(
        [row for image in images for row in image], street.tasks(), points_per_sign=4, run="street"
    )
    assert found.differences == ()
    assert (summary.created, found.tasks, found.masks, found.points) == (3, 3, 3, 24)
    assert found.absent == 3


def test_the_second_time_nothing_is_sent(street: Any, images_of: Images) -> None:
    images = images_of(3)
    street.publish(images)
    again = street.publish(images)
    assert (again.created, again.existing, again.failed) == (0, 3, 0)
    assert len(street.tasks()) == 3


def test_new_images_join_the_old_ones(street: Any, images_of: Images) -> None:
    street.publish(images_of(2))
    assert street.publish(images_of(5)).created == 3
    assert len(street.tasks()) == 5


@pytest.mark.parametrize("kill_at", range(1, 6))
def test_killed_anywhere_nothing_is_doubled_or_lost(
    street: Any, images_of: Images, monkeypatch: pytest.MonkeyPatch, kill_at: int
) -> None:
    images = images_of(5)
    small = street.settings.model_copy(update={"batch_tasks": 2})
    write = ledger_module.Ledger.write
    calls: list[int] = []

    def dying(self: ledger_module.Ledger, notes: Any) -> None:
        calls.append(1)
        if len(calls) >= kill_at:
            raise Killed
        write(self, notes)

    with monkeypatch.context() as patch:
        patch.setattr(ledger_module.Ledger, "write", dying)
        with pytest.raises(Killed) if kill_at <= 4 else pytest.MonkeyPatch.context():
            street.publish(images, settings=small)
    monkeypatch.setattr("labelstudio.publishing.reconcile.SETTLE_SECONDS", 0)
    street.publish(images, settings=small)
    found = verify(
        [row for image in images for row in image], street.tasks(), points_per_sign=4, run="street"
    )
    assert (found.tasks, found.differences) == (5, ())


def test_killed_before_the_request_leaves_nothing_behind(
    street: Any, images_of: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(*_: object) -> list[int]:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(LabelStudioClient, "import_tasks", dying)
        with pytest.raises(Killed):
            street.publish(images_of(2))
    monkeypatch.setattr("labelstudio.publishing.reconcile.SETTLE_SECONDS", 0)
    assert street.publish(images_of(2)).created == 2
    assert len(street.tasks()) == 2


def test_a_batch_that_arrives_late_is_waited_for(
    street: Any, images_of: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    late: list[Any] = []
    look, send = LabelStudioClient.find_tasks, LabelStudioClient.import_tasks

    def hold(self: LabelStudioClient, *request: Any) -> list[int]:
        late.append((self, *request))
        raise Killed

    def look_then_arrive(self: LabelStudioClient, *request: Any) -> Any:
        found = look(self, *request)
        while late:
            send(*late.pop())
        return found

    with monkeypatch.context() as patch:
        patch.setattr(LabelStudioClient, "import_tasks", hold)
        with pytest.raises(Killed):
            street.publish(images_of(2))
    monkeypatch.setattr(LabelStudioClient, "find_tasks", look_then_arrive)
    assert street.publish(images_of(2)).existing == 2
    assert len(street.tasks()) == 2


def test_a_stop_between_batches_is_remembered(street: Any, images_of: Images) -> None:
    def stop(_: int) -> None:
        raise StoppedError("asked to")

    small = street.settings.model_copy(update={"batch_tasks": 2})
    with pytest.raises(StoppedError):
        street.publish(images_of(4), settings=small, progress=stop)
    again = street.publish(images_of(4), settings=small)
    assert (again.created, again.existing) == (2, 2)


def test_a_changed_query_replaces_its_prediction(street: Any, images_of: Images) -> None:
    (image,) = images_of(1)
    street.publish([image])
    changed = [replace(image[0], key="other", query="the wet road"), image[1]]
    assert street.publish([changed]).replaced == 1
    (task,) = street.tasks()
    assert task["data"]["texts"]["road"] == "the wet road"
    assert verify(changed, [task], points_per_sign=4, run="street").differences == ()


def test_a_second_writer_is_noticed(street: Any, images_of: Images) -> None:
    def meanwhile() -> Iterator[list[Prediction]]:
        street.publish(images_of(1))
        yield from images_of(2)

    with pytest.raises(StoppedError, match="another run"):
        street.publish(meanwhile())


def test_the_refused_task_of_a_batch_fails_alone(
    street: Any, images_of: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labelstudio.publishing.writer.check_task", lambda *_: None)
    images = images_of(4)
    images[2] = [replace(images[2][0], label="unknown")]
    summary = street.publish(images)
    assert (summary.created, summary.failed, len(street.tasks())) == (3, 1, 3)
    assert "2.png" in summary.failures[0]
    assert "unknown" in summary.failures[0]


def test_a_down_server_is_named(street: Any) -> None:
    gone = street.settings.model_copy(update={"url": "http://127.0.0.1:9"})
    with pytest.raises(LabelStudioError, match=r"127\.0\.0\.1:9 cannot be reached"):
        street.publish([], settings=gone)


def test_a_refused_token_is_not_shown(street: Any) -> None:
    token = secrets.token_hex(20)
    with pytest.raises(LabelStudioError, match="LABEL_STUDIO_API_KEY") as caught:
        street.publish([], token=SecretStr(token))
    assert token not in "".join(traceback.format_exception(caught.value))


def test_another_server_is_told_apart(street: Any, s3: Any) -> None:
    other = street.settings.model_copy(update={"url": s3.endpoint})
    with pytest.raises(LabelStudioError, match="not a Label Studio server"):
        street.publish([], settings=other)
