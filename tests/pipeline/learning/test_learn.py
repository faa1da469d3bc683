"""What is learned from, an open training set or what people have said since; what kills leave."""

from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from io import StringIO
from threading import Event

import pytest

from pipeline.config import RunFile
from pipeline.errors import PictureError, StoppedError
from pipeline.learn import Learning
from pipeline.learning.gate import Decision
from pipeline.progress import Progress
from pipeline.registry.lineage import Lineage, Pointer
from pipeline.registry.registry import Registry
from pipeline.storage.store import Store
from pipeline.storage.training_sets import Manifest, TrainingSets
from tests.pipeline.learning.conftest import People
from workers.finetune.records import FinetuneJob, FinetuneResult, MergeCheck


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def run(store: Store, monkeypatch: pytest.MonkeyPatch) -> RunFile:
    """A run whose store has a first version, and no Ray."""
    registry = Registry(store)
    registry.record(Lineage("base", "", "", "x", "0.1.0", datetime(2026, 3, 1, tzinfo=UTC)))
    registry.move("base", "base", None)
    monkeypatch.setattr("pipeline.learn.ray_session", lambda _: nullcontext())
    return RunFile.model_validate(
        {"name": "test", "store": store.uri, "source": {"images": "photos"}, "model": "registry"}
    )


@pytest.fixture
def begin(run: RunFile, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Begin to learn, be stopped in the training, and return the name of its set."""

    def stopped(job: FinetuneJob, *_: object) -> None:
        raise StoppedError(job.snapshot)

    monkeypatch.setattr("workers.finetune.job.finetune", stopped)

    def learn(*, fresh: bool = False, after: int = 0) -> str:
        learning = Learning(run, fresh=fresh, stop=Event(), progress=Progress(), after=after)
        with pytest.raises(StoppedError) as ended:
            learning.learn()
        return str(ended.value)

    return learn


def test_an_open_training_is_gone_on_with_unless_others_are_asked_for(
    begin: Callable[..., str], many: Callable[[int], People]
) -> None:
    many(6)
    first = begin()
    many(3)
    assert begin() == begin(after=0) == first
    second = begin(after=1)
    assert second.startswith("000002-")
    assert begin() == begin(after=1) == second
    many(3)
    assert begin(after=1) == second
    assert begin(fresh=True).startswith("000003-")


def gone(job: FinetuneJob, *_: object) -> None:
    raise PictureError(f"a picture of {job.snapshot} is gone")


def test_a_training_that_lacks_a_picture_is_left_for_a_set_without_it(
    run: RunFile,
    store: Store,
    begin: Callable[..., str],
    many: Callable[[int], People],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    people = many(6)
    first = begin()
    picture = people.pictures["000.png"]
    away = picture.rename(picture.parent.with_name("away.png"))
    assert begin() == first
    with monkeypatch.context() as patch:
        patch.setattr("workers.finetune.job.finetune", gone)
        with pytest.raises(PictureError, match=first):
            Learning(run, fresh=False, stop=Event(), progress=Progress()).learn()
    many(3)
    away.rename(picture)
    assert begin() == first
    picture.unlink()
    second = begin()
    left_out = TrainingSets(store).named(second).left_out
    assert (second[:7], left_out) == ("000002-", {"whose image is gone": 2})
    assert begin() == second


def trained(job: FinetuneJob, *_: object) -> FinetuneResult:
    """Return what a training ends with."""
    merge = MergeCheck(0.0, 0.0, 0.0)
    return FinetuneResult("new", "models/base", job.snapshot, 1, 8, 8, 0.1, 1.0, 1, merge)


def judged(_: Learning, snapshot: Manifest, result: FinetuneResult, incumbent: Pointer) -> Decision:
    """Let the gate decide for the candidate."""
    return Decision(
        snapshot=snapshot.name,
        candidate=result.version,
        incumbent=incumbent.version,
        metrics={"candidate": {}, "incumbent": {}},
        gain=0.1,
        gain_ci=(0.05, 0.15),
        guards=(),
        promoted=True,
        reasons=("promoted",),
    )


def killed(*_: object) -> None:
    raise Killed


def test_a_promotion_that_was_rolled_back_is_not_made_again_though_a_kill_left_it_unsettled(
    run: RunFile, store: Store, many: Callable[[int], People], monkeypatch: pytest.MonkeyPatch
) -> None:
    many(6)
    told = StringIO()
    learning = Learning(run, fresh=False, stop=Event(), progress=Progress(told))
    monkeypatch.setattr("workers.finetune.job.finetune", trained)
    monkeypatch.setattr(Learning, "_judge", judged)
    with monkeypatch.context() as patch:
        patch.setattr(TrainingSets, "settle", killed)
        with pytest.raises(Killed):
            learning.learn()
    registry = Registry(store)
    promoted = registry.current()
    assert promoted
    assert (promoted.version, promoted.kind) == ("new", "promote")
    back = registry.move("base", "rollback", promoted)
    decision = learning.learn()
    assert not decision.promoted
    assert decision.reasons[0] == "promoted"
    assert "it was promoted before and taken back" in decision.reasons[1]
    assert registry.current() == back
    learning.learn()
    assert "nothing new: this was decided before" in told.getvalue()
    assert registry.current() == back
