"""Watching: what it waits for is said, what may pass is tried again, a stop ends it with 3."""

from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from threading import Event

import pytest

from labelstudio.settings import LabelStudioSettings
from pipeline.config import RunFile
from pipeline.errors import ExitCode, LabelStudioError, StoppedError
from pipeline.progress import Progress
from pipeline.refresh import Refresh
from pipeline.refreshing.halt import Halt
from pipeline.refreshing.lease import Lease
from pipeline.refreshing.report import Relabeled
from pipeline.refreshing.settings import RefreshSettings
from pipeline.refreshing.shelf import Begun, Shelf
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.store import Store
from tests.clocks import FastClock
from tests.workers.finetune.conftest import corrections


@pytest.fixture
def run(store: Store) -> RunFile:
    return RunFile.model_validate(
        {
            "name": "test",
            "store": store.uri,
            "source": {"images": "photos"},
            "model": "registry",
            "refresh": {"at_least": 2, "poll": "10m"},
        }
    )


@pytest.fixture
def nightly(run: RunFile) -> RunFile:
    """The run, refreshed at 3 in the night only."""
    settings = {"at_least": 2, "poll": "10m", "cron": "0 3 * * *"}
    return run.model_copy(update={"refresh": RefreshSettings.model_validate(settings)})


def watch(run: RunFile, clock: FastClock, at: dict[int, Callable[[], object]]) -> list[str]:
    """Watch, do something at some of the waits, and return what was said."""
    told, count = StringIO(), [0]

    def waiting() -> None:
        count[0] += 1
        at.get(count[0], lambda: None)()

    clock.waiting = waiting
    stop = Event()
    at[max(at) + 1] = stop.set
    turns = Refresh(run, now=False, stop=stop, progress=Progress(told), clock=clock)
    with pytest.raises(StoppedError, match="run again to go on") as ended:
        turns.watch(lambda _: pytest.fail("nothing was to be refreshed"))
    assert ended.value.exit_code == ExitCode.STOPPED
    return told.getvalue().splitlines()


def test_what_it_waits_for_is_said_once(
    run: RunFile, store: Store, clock: FastClock, tmp_path: Path
) -> None:
    (row, *_) = corrections(tmp_path / "photos", 1, store.s3)
    told = watch(run, clock, {3: lambda: CorrectionTable(store).append([row]), 6: lambda: None})
    assert told == [f"waiting: {count} new corrections, refresh.at_least is 2" for count in (0, 1)]


def test_a_refresh_that_somebody_else_holds_is_tried_again(
    run: RunFile, store: Store, clock: FastClock, tmp_path: Path
) -> None:
    rows = corrections(tmp_path / "photos", 2, store.s3)
    other = Lease(store, timedelta(days=1), clock)

    def begin() -> None:
        other.take()
        CorrectionTable(store).append(rows)

    start = clock.now()
    waiting, *again = watch(run, clock, {1: begin, 4: lambda: None})
    assert waiting.startswith("waiting")
    assert all(f"is refreshed by {other.owner}" in line for line in again)
    pauses = [line.rpartition("looking again in ")[2] for line in again]
    assert pauses == ["0:20:00", "0:40:00", "1:00:00", "1:00:00"]
    assert clock.now() - start == timedelta(minutes=10 + 20 + 40 + 60 + 60)


def test_a_lease_that_a_killed_watch_left_is_waited_for(
    run: RunFile, store: Store, clock: FastClock, tmp_path: Path
) -> None:
    CorrectionTable(store).append(corrections(tmp_path / "photos", 2, store.s3))
    killed = Lease(store, timedelta(days=1), clock)
    killed.take()
    told = watch(run, clock, {2: lambda: None})
    assert len(told) == 3
    assert all(f"is refreshed by {killed.owner}" in line for line in told)


class Collecting:
    """Stands for a collection at a server: asked to stop, it leaves."""

    def __init__(self, stop: Event, during: list[Callable[[], None]]) -> None:
        self._stop = stop
        self._during = during

    def collect(self) -> None:
        """Do what is to happen during this collection, if anything is."""
        if self._during:
            self._during.pop()()
            self._stop.wait(10)
        if self._stop.is_set():
            raise StoppedError("stopped; what was read is committed, run again to go on")


def test_a_refresh_whose_lease_is_lost_is_left_to_the_other_and_the_watch_goes_on(
    run: RunFile, store: Store, clock: FastClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = Begun(1, "dead:1:0", clock.now(), "9 new corrections", 9, 0, 0, 0, None)
    Shelf(store).begin(begun)
    other = Lease(store, timedelta(days=1), FastClock(clock.now() + timedelta(minutes=2)))

    def lose_the_lease() -> None:
        other.take()
        clock.pass_time(minutes=1)

    def let_the_other_finish() -> None:
        Shelf(store).steps(begun).write("done", Relabeled, Relabeled())
        other.give_back()

    during = [lose_the_lease]
    monkeypatch.setattr("pipeline.refresh.CollectRun", lambda _, stop, __: Collecting(stop, during))
    somewhere = LabelStudioSettings(url="http://127.0.0.1:1", project="test")
    run = run.model_copy(update={"labelstudio": somewhere})
    going_on, lost, waiting = watch(run, clock, {1: let_the_other_finish, 3: lambda: None})
    assert going_on == "going on with refresh 1"
    assert "another one has taken over" in lost
    assert waiting == "waiting: 0 new corrections, refresh.at_least is 2"


def test_what_fails_at_the_first_look_ends_it(
    run: RunFile, clock: FastClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "t" * 40)
    nowhere = LabelStudioSettings(url="http://127.0.0.1:1", project="test")
    run = run.model_copy(update={"labelstudio": nowhere})
    turns = Refresh(run, now=False, stop=Event(), progress=Progress(StringIO()), clock=clock)
    with pytest.raises(LabelStudioError, match=r"127\.0\.0\.1:1"):
        turns.watch(lambda _: None)


def test_a_time_with_too_few_corrections_does_not_come_back(
    nightly: RunFile, store: Store, clock: FastClock, tmp_path: Path
) -> None:
    told = watch(nightly, clock, {99: lambda: None})
    assert told[0].endswith("the next time is 2026-03-02 03:00:00+00:00")
    assert told[-1].endswith("the next time is 2026-03-03 03:00:00+00:00")
    CorrectionTable(store).append(corrections(tmp_path / "photos", 2, store.s3))
    (told_again,) = watch(nightly, clock, {3: lambda: None})
    assert told_again.endswith("the next time is 2026-03-03 03:00:00+00:00")


def test_a_time_at_which_somebody_else_refreshes_is_not_lost(
    nightly: RunFile, store: Store, clock: FastClock, tmp_path: Path
) -> None:
    CorrectionTable(store).append(corrections(tmp_path / "photos", 2, store.s3))
    other = Lease(store, timedelta(days=9), clock)
    other.take()
    waiting, *again = watch(nightly, clock, {95: lambda: None})
    assert waiting.startswith("waiting")
    assert len(again) > 1
    assert all(f"is refreshed by {other.owner}" in line for line in again)


def test_a_night_without_a_watch_comes_once(
    nightly: RunFile, store: Store, clock: FastClock, tmp_path: Path
) -> None:
    watch(nightly, clock, {3: lambda: None})
    clock.pass_time(days=2)
    CorrectionTable(store).append(corrections(tmp_path / "photos", 2, store.s3))
    Lease(store, timedelta(days=9), clock).take()
    assert "is refreshed by" in watch(nightly, clock, {1: lambda: None})[0]


def test_a_halt_is_set_by_either_and_leaves_the_other_alone() -> None:
    stop = Event()
    halt = Halt(stop)
    assert not halt.wait(0.01)
    halt.set()
    assert halt.wait()
    assert not stop.is_set()
    other = Halt(stop)
    stop.set()
    assert other.is_set()
    assert other.wait(1)
