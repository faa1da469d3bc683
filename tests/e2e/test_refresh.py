"""Three refreshes under a fast clock: promoted, refused, and one that dies half way."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest
import ray

from pipeline.candidates import current_version
from pipeline.config import load_run_file
from pipeline.errors import StoppedError
from pipeline.label import LabelRun
from pipeline.progress import Progress
from pipeline.records import Correction
from pipeline.refresh import Refresh, refresh_once
from pipeline.refreshing.report import RefreshReport
from pipeline.refreshing.shelf import Shelf, Steps
from pipeline.registry.registry import Registry
from pipeline.review.priority import features_of, hand_made
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import Store, open_store
from pipeline.storage.tables import PredictionTables
from pipeline.storage.training_sets import TrainingSets
from tests.clocks import FastClock
from tests.e2e.learnable import BETTER, TRAIN, whole_pictures, write_learnable
from workers.finetune.loop import read_result, train
from workers.finetune.parallel import World
from workers.finetune.records import FinetuneJob

if TYPE_CHECKING:
    from tests.e2e.conftest import Readloop

QUERY = {"label": "all", "text": "everything"}
COUNT = 14
LEARNS = {**BETTER, "steps": 8, "rate": 1e-3}
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"), S3Settings())


@pytest.fixture
def said(tmp_path: Path, store: Store) -> list[Correction]:
    """What people will say: one correction for each picture."""
    firsts = {row.image_id: row for row in whole_pictures(tmp_path / "photos", COUNT, store)}
    return [replace(row, label="all", query="everything") for row in firsts.values()]


@pytest.fixture
def connected(ray_nodes: str) -> Iterator[None]:
    ray.init(ray_nodes, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


class Loop:
    """One store with its run file, which may change, and a clock."""

    def __init__(self, folder: Path, store: Store, tiny: Path) -> None:
        self.folder = folder
        self.store = store
        self.tiny = tiny
        self.clock = FastClock(NOON)
        self.told = StringIO()

    def write(self, train: dict[str, Any], **refresh: object) -> Path:
        """Write the run file."""
        settings = {"at_least": 3, "relabel": 3, **refresh}
        return write_learnable(self.folder, self.store, self.tiny, train, [QUERY], refresh=settings)

    def watch(self, path: Path, waits: dict[int, Sequence[Correction]]) -> RefreshReport:
        """Watch until there was a refresh; people say something at some of the waits."""
        stop, reports, count = Event(), list[RefreshReport](), [0]

        def waiting() -> None:
            count[0] += 1
            CorrectionTable(self.store).append(waits.get(count[0], ()))

        def tell(report: RefreshReport) -> None:
            reports.append(report)
            stop.set()

        self.clock.waiting = waiting
        turns = Refresh(
            load_run_file(path),
            now=False,
            stop=stop,
            progress=Progress(self.told),
            clock=self.clock,
        )
        with pytest.raises(StoppedError, match="run again to go on"):
            turns.watch(tell)
        self.clock.waiting = lambda: None
        (report,) = reports
        return report

    def versions(self, images: Sequence[str]) -> list[str]:
        """Return whose prediction is the latest of each image."""
        return [rows[0].model_version for rows in PredictionTables(self.store).latest(images)]


@pytest.fixture
def loop(tmp_path: Path, store: Store, repository: Path) -> Loop:
    """A store whose run file learns from the tiny model on."""
    return Loop(tmp_path, store, repository / "configs" / "models" / "tiny")


@pytest.mark.usefixtures("connected")
def test_three_refreshes(
    readloop_on_nodes: "Readloop", loop: Loop, store: Store, said: list[Correction]
) -> None:
    images = [row.image_id for row in said]
    run = load_run_file(loop.write(LEARNS))
    base = current_version(run, store, Progress())
    LabelRun(run, None, Event(), Progress()).label()
    worst = sorted(PredictionTables(store).latest(images[8:]), key=_priority)[:3]

    first = loop.watch(loop.write(LEARNS, poll="10m"), {1: said[:2], 3: said[2:8]})
    assert "waiting: 0 new corrections, refresh.at_least is 3" in loop.told.getvalue()
    assert "waiting: 2 new corrections, refresh.at_least is 3" in loop.told.getvalue()
    assert (first.number, first.promoted, first.decision.new) == (1, True, 8)
    assert first.gate
    assert first.relabeled
    assert (first.relabeled.images, first.relabeled.failed) == (3, 0)
    assert Shelf(store).last().began_at == NOON + timedelta(minutes=30)  # type: ignore[union-attr]
    candidate = first.gate["candidate"]
    anew = [rows[0].image_id for rows in worst]
    assert loop.versions(images) == [
        candidate if image in anew else base.version for image in images
    ]

    nightly = loop.write(TRAIN, poll="1h", cron="0 3 * * *", timezone="Europe/Berlin")
    second = loop.watch(nightly, {2: said[8:11]})
    assert (second.number, second.promoted, second.decision.new) == (2, False, 3)
    assert (second.relabeled, second.published) == (None, None)
    assert "the next time is 2026-03-02 03:00:00+01:00" in loop.told.getvalue()
    began = Shelf(store).last()
    assert began
    assert NOON + timedelta(hours=14) <= began.began_at <= NOON + timedelta(hours=15)

    again = refresh_once(load_run_file(nightly), clock=loop.clock, progress=Progress(loop.told))
    assert (again.number, again.decision.learn, again.decision.new) == (None, False, 0)

    CorrectionTable(store).append(said[11:14])
    slow = loop.write({**TRAIN, "steps": 8}, every="0s")
    killed = readloop_on_nodes.start("refresh", slow, "--json")
    _wait_for_states(store, "000003", 2)
    killed.kill()
    killed.communicate(timeout=60)
    with pytest.raises(StoppedError, match="is refreshed by"):
        refresh_once(load_run_file(slow), clock=FastClock(datetime.now(UTC)))
    third = refresh_once(
        load_run_file(slow),
        clock=FastClock(datetime.now(UTC) + timedelta(hours=1)),
        progress=Progress(loop.told),
    )
    assert "going on with refresh 3" in loop.told.getvalue()
    assert (third.number, third.promoted, third.decision.new) == (3, False, 3)
    assert third.gate
    assert third.gate["candidate"] == _undisturbed(store, slow, third.gate)
    assert [manifest.number for manifest in TrainingSets(store).manifests()] == [1, 2, 3]
    assert [entry.kind for entry in Registry(store).chain()] == ["base", "promote"]
    assert Shelf(store).unfinished() is None


def test_a_watch_waits_until_it_is_told_to_end(readloop: "Readloop", loop: Loop) -> None:
    path = loop.write(LEARNS, poll="1s")
    watching = readloop.start("refresh", path, "--watch", "--json")
    try:
        assert watching.stderr
        told = iter(watching.stderr.readline, "")
        waits = next((line for line in told if line.startswith("waiting")), "it ended")
        assert waits == "waiting: 0 new corrections, refresh.at_least is 3\n"
        watching.terminate()
        out, rest = watching.communicate(timeout=60)
    finally:
        watching.kill()
    assert (watching.returncode, out) == (3, "")
    assert "run again to go on" in rest


class KilledError(Exception):
    """Stands for the end of the process, just before something is written down."""


@pytest.mark.usefixtures("connected")
def test_a_refresh_that_dies_before_each_of_its_marks_does_nothing_twice(
    loop: Loop, store: Store, said: list[Correction], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load_run_file(loop.write(LEARNS))
    base = current_version(run, store, Progress())
    LabelRun(run, None, Event(), Progress()).label()
    CorrectionTable(store).append(said[:8])
    for name in ("begun", "learned", "chosen", "relabeled", "done"):
        with monkeypatch.context() as patch:
            _die_before(patch, name)
            with pytest.raises(KilledError, match=name):
                refresh_once(run, clock=loop.clock, progress=Progress(loop.told))
    report = refresh_once(run, clock=loop.clock, progress=Progress(loop.told))

    assert (report.number, report.promoted, report.decision.new) == (1, True, 8)
    assert report.relabeled
    assert (report.relabeled.images, report.relabeled.failed) == (3, 0)
    assert loop.told.getvalue().count("trained 8 steps") == 1
    assert [manifest.number for manifest in TrainingSets(store).manifests()] == [1]
    assert [entry.kind for entry in Registry(store).chain()] == ["base", "promote"]
    assert sorted(loop.versions([row.image_id for row in said])) == sorted(
        [base.version] * (COUNT - 3) + [report.gate["candidate"] if report.gate else ""] * 3
    )
    assert Shelf(store).unfinished() is None


def _die_before(patch: pytest.MonkeyPatch, name: str) -> None:
    """Let a refresh end just before it writes down that a step is done; none is published here."""
    write = Steps.write

    def dying(steps: Steps, step: str, kind: type[Any], result: object) -> None:
        if step == name:
            raise KilledError(name)
        write(steps, step, kind, result)

    def dying_there(*_: object) -> None:
        raise KilledError(name)

    patch.setattr(Steps, "write", dying)
    if name == "chosen":
        patch.setattr(Steps, "write_chosen", dying_there)


def _priority(rows: Sequence[Any]) -> float:
    return min(hand_made(features_of(row)) for row in rows)


def _wait_for_states(store: Store, snapshot: str, count: int) -> None:
    assert store.address.local
    for _ in range(6000):
        if len(list(store.address.local.glob(f"training/{snapshot}-*/states/*.pt"))) >= count:
            return
        time.sleep(0.05)
    pytest.fail("the training wrote no states")


def _undisturbed(store: Store, path: Path, gate: dict[str, Any]) -> str:
    """Return the version that a training without a kill ends with."""
    run = load_run_file(path)
    calm = FinetuneJob(
        store=store.uri,
        s3=store.s3,
        limits=run.limits,
        folder="training/calm",
        snapshot=gate["snapshot"],
        start=Registry(store).weights(gate["incumbent"]),
        models="models",
        settings=run.finetune.train,
    )
    train(calm, World(), lambda _: None)
    result = read_result(store, "training/calm")
    assert result
    return result.version
