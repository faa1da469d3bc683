"""Which training set is learned from: one that is open, or what people have said since."""

from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from threading import Event

import pytest

from pipeline.config import RunFile
from pipeline.errors import StoppedError
from pipeline.learn import Learning
from pipeline.progress import Progress
from pipeline.registry.lineage import Lineage
from pipeline.registry.registry import Registry
from pipeline.storage.store import Store
from tests.pipeline.learning.conftest import People
from workers.finetune.records import FinetuneJob


@pytest.fixture
def begin(store: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Begin to learn, be stopped in the training, and return the name of its set."""
    registry = Registry(store)
    registry.record(Lineage("base", "", "", "x", "0.1.0", datetime(2026, 3, 1, tzinfo=UTC)))
    registry.move("base", "base", None)
    run = RunFile.model_validate(
        {"name": "test", "store": store.uri, "source": {"images": "photos"}, "model": "registry"}
    )

    def stopped(job: FinetuneJob, *_: object) -> None:
        raise StoppedError(job.snapshot)

    monkeypatch.setattr("pipeline.learn.ray_session", lambda _: nullcontext())
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
