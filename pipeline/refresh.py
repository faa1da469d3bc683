"""One turn of the loop: corrections in, a better model out, its answers before people. The recipe.

Collect, decide whether that is worth it, learn, promote what is better, and let it label anew what
nobody has touched, worst first. A lease keeps others out meanwhile. Every step leaves its result on
the store: killed anywhere and started again, the refresh goes on with the step that is missing.
Replicas take the new version by themselves: the registry's pointer is all that is moved.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

from labelstudio.publishing.publish import PublishSummary
from pipeline.collect import CollectRun, CollectSummary
from pipeline.config import RunFile
from pipeline.errors import InputError, LabelStudioError, StoppedError, StorageError
from pipeline.learn import Learning
from pipeline.learning.gate import Decision
from pipeline.progress import Progress
from pipeline.refreshing.clock import Clock
from pipeline.refreshing.halt import Halt
from pipeline.refreshing.lease import Lease, LeaseHeldError
from pipeline.refreshing.news import decided_since, new_corrections
from pipeline.refreshing.report import RefreshReport, Relabeled
from pipeline.refreshing.shelf import Begun, Shelf, Steps
from pipeline.refreshing.triggers import Schedule, Wish, decide, pause
from pipeline.registry.registry import Registry
from pipeline.relabel import Relabeling
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.store import open_store
from pipeline.storage.training_sets import TrainingSets
from workers.cluster import ray_session

_TRIES = 5
_AGAIN_SECONDS = 3.0


def refresh_once(
    run: RunFile,
    *,
    now: bool = False,
    stop: threading.Event | None = None,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> RefreshReport:
    """Refresh a run's model once, or go on with a refresh that died.

    Args:
        run: the run; with ``model: registry``, all that labels or serves follows by itself.
        now: learn however few corrections are new, and however short ago the last refresh was.
        stop: ends it between two batches.
        progress: is told what happens.
        clock: the time.

    Raises:
        InputError: there is nothing to learn from.
        StoppedError: stopped, or somebody else refreshes this store; run again to go on.
        ReadloopError: the store, the model or Label Studio cannot be used.
    """
    return Refresh(
        run, now=now, stop=stop or threading.Event(), progress=progress or Progress(), clock=clock
    ).once()


class Refresh:
    """The refreshes of one run; the arguments are those of :func:`refresh_once`."""

    def __init__(
        self,
        run: RunFile,
        *,
        now: bool,
        stop: threading.Event,
        progress: Progress,
        clock: Clock | None = None,
    ) -> None:
        self._run = run
        self._now = now
        self._stop = stop
        self._progress = progress
        self._clock = clock or Clock()
        self._store = open_store(run.store, run.s3)
        self._registry = Registry(self._store)
        self._sets = TrainingSets(self._store)
        self._shelf = Shelf(self._store)
        self._lease = Lease(self._store, run.refresh.lease, self._clock)
        self._halt = Halt(stop)
        self._collecting: CollectRun | None = None
        self._told = ""

    def once(self) -> RefreshReport:
        """Take one turn; see :func:`refresh_once`."""
        with self._leased():
            return self._turn(self._collect)

    def watch(self, tell: Callable[[RefreshReport], None]) -> NoReturn:
        """Take a turn whenever one is due, until asked to stop.

        Once the first look has worked, a server or store that fails is tried again; that somebody
        else holds the lease (an earlier watch that was killed, maybe) always is.

        Args:
            tell: is given the report of each refresh.

        Raises:
            StoppedError: always, in the end.
        """
        schedule = self._schedule()
        failures, worked = 0, False
        while not self._stop.is_set():
            try:
                report = self._look(schedule)
                failures, worked = 0, True
            except (InputError, LabelStudioError, StorageError, StoppedError) as error:
                worked = worked or isinstance(error, LeaseHeldError)
                if self._stop.is_set() or not worked:
                    raise
                failures += 1
                wait = pause(self._run.refresh, failures)
                self._progress.say(f"{error}; looking again in {wait}")
            else:
                if report and report.number:
                    tell(report)
            self._clock.wait(self._stop, pause(self._run.refresh, failures).total_seconds())
        raise StoppedError("stopped; run again to go on")

    def _schedule(self) -> Schedule:
        """Return the schedule as an earlier watch left it; what came meanwhile is due once."""
        now, settled = self._clock.now(), self._shelf.settled()
        last = self._shelf.last()
        if self._run.refresh.cron and settled is None and last is None:
            self._shelf.settle(now)
        known = [time for time in (settled, last.began_at if last else None) if time]
        return Schedule(self._run.refresh, max(known, default=now))

    def _look(self, schedule: Schedule) -> RefreshReport | None:
        """Collect, and take a turn if that is due."""
        if self._shelf.unfinished():
            return self.once()
        last = self._shelf.last()
        if last:
            schedule.settle(last.began_at)
        now = self._clock.now()
        collected = self._collect()
        wish = self._wish()
        due = schedule.is_due(now)
        if due and wish.learn:
            with self._leased():
                report = self._turn(lambda: collected)
            self._collecting = None
            return report
        if due and self._run.refresh.cron:
            schedule.settle(now)
            self._shelf.settle(now)
        self._wait_for(f"waiting: {wish.why}{schedule.told()}")
        return None

    def _wait_for(self, text: str) -> None:
        if text != self._told:
            self._progress.say(text)
            self._told = text

    @contextmanager
    def _leased(self) -> Iterator[None]:
        """Hold the lease; once it is lost, what was halted by that begins anew."""
        try:
            with self._lease.held(self._halt):
                yield
        except StoppedError as error:
            if self._halt.is_set() and not self._stop.is_set():
                raise LeaseHeldError(
                    f"{self._store.uri}: this refresh was suspended for longer than refresh.lease, "
                    "and another one has taken over; nothing is lost"
                ) from error
            raise
        finally:
            if self._halt.is_set():
                self._halt, self._collecting = Halt(self._stop), None

    def _turn(self, collect: Callable[[], CollectSummary | None]) -> RefreshReport:
        began = time.monotonic()
        begun = self._shelf.unfinished()
        if begun:
            self._progress.say(f"going on with refresh {begun.number}")
            if self._shelf.steps(begun).read("learned", Decision) is None:
                collect()  # it may have lacked what people have said since
        else:
            collected = collect()
            plain = collected.to_json() if collected else None
            wish = self._wish()
            self._progress.say(wish.why)
            if not wish.learn:
                return RefreshReport(None, plain, wish, seconds=_since(began))
            begun = self._begin(wish, plain)
        return self._finish(begun, began)

    def _finish(self, begun: Begun, began: float) -> RefreshReport:
        steps = self._shelf.steps(begun)
        relabeled, published = None, None
        with ray_session(self._run.pool):
            decision = steps.once("learned", Decision, partial(self._learn, begun))
            self._progress.say("; ".join(decision.reasons))
            if decision.promoted:
                relabeled, published = self._relabel(steps, decision.candidate)
        report = RefreshReport(
            number=begun.number,
            collected=begun.collected,
            decision=Wish(learn=True, why=begun.why, new=begun.new),
            gate=decision.to_json(),
            promoted=decision.promoted,
            relabeled=relabeled,
            published=published,
            seconds=_since(began),
        )
        steps.write("done", RefreshReport, report)
        return report

    def _collect(self) -> CollectSummary | None:
        """Take in what people said; somebody else may be at it just now."""
        if self._run.labelstudio is None:
            return None
        if self._collecting is None:
            self._collecting = CollectRun(self._run, self._halt, self._progress)
        for _ in range(_TRIES):
            try:
                return self._collecting.collect()
            except StoppedError as error:
                if self._halt.is_set():
                    raise
                self._progress.say(f"{error}; trying again in {_AGAIN_SECONDS:.0f} s")
            self._clock.wait(self._halt, _AGAIN_SECONDS)
        return self._collecting.collect()

    def _wish(self) -> Wish:
        last = self._shelf.last()
        new = new_corrections(self._store, last, self._progress.say)
        if self._now:
            return Wish(learn=True, why=f"{new} new corrections, and it was asked for", new=new)
        began_at = last.began_at if last else None
        return decide(self._run.refresh, new, began_at, self._clock.now())

    def _begin(self, wish: Wish, collected: dict[str, Any] | None) -> Begun:
        last, pointer, snapshot = self._shelf.last(), self._registry.current(), self._sets.latest()
        begun = Begun(
            number=last.number + 1 if last else 1,
            owner=self._lease.owner,
            began_at=self._clock.now(),
            why=wish.why,
            new=wish.new,
            corrections=CorrectionTable(self._store).version,
            pointer=pointer.number if pointer else 0,
            snapshot=snapshot.number if snapshot else 0,
            collected=collected,
        )
        self._shelf.begin(begun)
        self._progress.say(f"refresh {begun.number} begins")
        return begun

    def _learn(self, begun: Begun) -> Decision:
        known = decided_since(self._store, begun)
        if known:
            return known
        return Learning(
            self._run,
            fresh=False,
            stop=self._halt,
            progress=self._progress,
            after=begun.snapshot,
            check=self._lease.check,
        ).learn()

    def _relabel(
        self, steps: Steps, version: str
    ) -> tuple[Relabeled | None, PublishSummary | None]:
        """Label anew what is worth it, and show that; nothing if the version was rolled back."""
        relabeling = Relabeling(self._run, self._store, version, self._halt, self._progress)
        if not self._is_current(version):
            return None, None
        images = steps.chosen()
        if images is None:
            images = relabeling.choose()
            steps.write_chosen(images)
        self._progress.say(f"{len(images)} images are labeled anew")
        if not images:
            return Relabeled(), None
        relabeled = steps.once("relabeled", Relabeled, partial(relabeling.label, images))
        self._lease.check()
        if self._run.labelstudio is None or not self._is_current(version):
            return relabeled, None
        publish = partial(relabeling.publish, images)
        return relabeled, steps.once("published", PublishSummary, publish)

    def _is_current(self, version: str) -> bool:
        current = self._registry.current()
        if current and current.version == version:
            return True
        self._progress.say(f"{version} is not current any more: its answers are not shown")
        return False


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)
