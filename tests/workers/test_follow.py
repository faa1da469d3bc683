"""A replica that follows the current version, without Ray and with stand-in engines."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NoReturn

import pytest

from pipeline.errors import ModelUnusableError, StorageError
from pipeline.records import CurrentModel, ImageTasks, Query, task_key
from pipeline.storage.shards import Shard
from pipeline.storage.store import open_store
from pipeline.storage.tables import PredictionTables
from tests.workers.conftest import SETTINGS, VERSION, StandInEngine
from workers.actor import LabelJob, Replica
from workers.attempts import AttemptBook
from workers.follow import LONGEST_WAIT, Following, Watch

MakeImages = Callable[..., list[ImageTasks]]
MakeJob = Callable[..., LabelJob]
NEWER = "stand-in-2"


class ProcessEndedError(BaseException):
    """Stands for the end of the process."""


@dataclass
class Registry:
    """What is current, and what happens when that is made ready or loaded."""

    current: CurrentModel | None = None
    fault: Exception | None = None
    unready: Exception | None = None
    loaded: list[str] = field(default_factory=list)

    def move(self, number: int, version: str) -> None:
        """Make a version current."""
        self.current = CurrentModel(number, version, f"models/{version}")

    def prepare(self, current: CurrentModel) -> Callable[[], StandInEngine]:
        """Return what loads a version, or raise what was ordered."""
        if self.unready is not None:
            raise self.unready

        def load() -> StandInEngine:
            if self.fault is not None:
                raise self.fault
            self.loaded.append(current.version)
            return StandInEngine(version=current.version)

        return load

    def following(self) -> Following:
        """Let a replica look before every batch."""
        return Following(lambda: self.current, self.prepare, 1e-9)


@pytest.fixture
def registry() -> Registry:
    found = Registry()
    found.move(1, VERSION)
    return found


@pytest.fixture
def replica(registry: Registry, job: MakeJob) -> Replica:
    def first() -> StandInEngine:
        registry.loaded.append(VERSION)
        return StandInEngine()

    return Replica(replace(job(first), follow=registry.following()), AttemptBook(10))


def versions(job: LabelJob, shard: Shard) -> set[str]:
    tables = PredictionTables(open_store(job.store, job.s3))
    tables.commit([shard])
    return tables.model_versions()


def test_a_promoted_version_answers_the_next_batch_under_its_own_keys(
    registry: Registry, replica: Replica, images: MakeImages, job: MakeJob
) -> None:
    before, after = images(2, "bright", "no such thing")
    shard = replica.label([before])
    assert (shard.moved, shard.change) == ((), None)
    registry.move(2, NEWER)
    shard = replica.label([replace(after, tasks=after.tasks[:1], done=after.tasks[1:])])
    assert shard.change
    assert (shard.change.before, shard.change.after) == (VERSION, NEWER)
    assert (shard.present, shard.absent) == (1, 1), "what was done is answered again"
    wanted = {
        task.key: task_key(after.image, Query(task.label, task.query), NEWER, SETTINGS)
        for task in after.tasks
    }
    assert dict(shard.moved) == wanted
    assert versions(job(), shard) == {NEWER}
    assert registry.loaded == [VERSION, NEWER]
    assert replica.label([before]).change is None


def test_after_a_rollback_work_has_the_planned_keys_again(
    registry: Registry, replica: Replica, images: MakeImages
) -> None:
    (work,) = images(1, "bright")
    registry.move(2, NEWER)
    assert replica.label([work]).moved
    registry.move(3, VERSION)
    assert replica.label([work]).moved == ()


@pytest.mark.parametrize(
    "fault", [ModelUnusableError("half a model"), RuntimeError("half a model")]
)
def test_what_cannot_be_loaded_is_told_and_the_old_one_is_loaded_again(
    registry: Registry, replica: Replica, images: MakeImages, fault: Exception
) -> None:
    (work,) = images(1, "bright")
    replica.label([work])
    registry.move(2, NEWER)
    registry.fault = fault
    shard = replica.label([work])
    assert shard.moved == ()
    assert shard.change
    assert "half a model" in shard.change.reason
    assert registry.loaded == [VERSION, VERSION], "dropped before, and back after"
    assert replica.label([work]).change is None, "it is told once"
    registry.fault = None
    registry.move(3, "stand-in-3")
    assert replica.label([work]).moved


def test_what_cannot_be_made_ready_leaves_the_old_one_loaded(
    registry: Registry, replica: Replica, images: MakeImages
) -> None:
    (work,) = images(1, "bright")
    replica.label([work])
    registry.move(2, NEWER)
    registry.unready = ModelUnusableError("no tokenizer")
    shard = replica.label([work])
    assert shard.change
    assert shard.change.reason == "no tokenizer"
    assert registry.loaded == [VERSION]


def test_a_version_that_ends_the_process_is_tried_twice(
    registry: Registry,
    images: MakeImages,
    job: MakeJob,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def end(code: int) -> NoReturn:
        raise ProcessEndedError(code)

    monkeypatch.setattr(os, "_exit", end)
    registry.move(2, NEWER)
    registry.fault = SystemError("libcuda is gone")
    following = replace(job(), follow=registry.following())
    book, work = AttemptBook(10), images(1, "bright")
    for _ in range(2):
        with pytest.raises(ProcessEndedError):
            Replica(following, book).label(work)
    shard = Replica(following, book).label(work)
    assert (shard.present, shard.moved) == (1, ())
    assert shard.change
    assert "ended the process 2 times: SystemError: libcuda is gone" in shard.change.reason


def test_a_replica_stays_where_nothing_is_current_or_nobody_may_be_asked(
    images: MakeImages, job: MakeJob
) -> None:
    def refuse() -> NoReturn:
        raise StorageError("no access")

    (work,) = images(1, "bright")
    nothing = Registry()
    shard = Replica(replace(job(), follow=nothing.following()), AttemptBook(10)).label([work])
    assert (shard.moved, shard.change) == ((), None)
    following = Following(refuse, nothing.prepare, 1e-9)
    shard = Replica(replace(job(), follow=following), AttemptBook(10)).label([work])
    assert shard.moved == ()
    assert shard.change
    assert "no access" in shard.change.reason


def test_a_watch_looks_when_it_is_time_and_tells_what_is_not_settled() -> None:
    now, looks = [0.0], [0]

    def look() -> CurrentModel:
        looks[0] += 1
        return CurrentModel(2, NEWER, "")

    watch = Watch(look, 10, lambda: now[0])
    assert watch.news() == CurrentModel(2, NEWER, "")
    assert watch.news() is None
    assert looks == [1]
    now[0] = 10
    assert watch.news() is not None
    watch.settle(2)
    watch.settle(1)
    now[0] = 20
    assert watch.news() is None
    assert looks == [3]
    waits = [watch.later() for _ in range(8)]
    assert waits[:3] == [20, 40, 80]
    assert waits[-1] == LONGEST_WAIT
