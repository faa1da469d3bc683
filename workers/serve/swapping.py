"""Exchanging the weights of a running server: for what became current, or what somebody chose.

New weights are loaded beside the old ones and take their place between two requests. If they
cannot be loaded the old ones stay, and the current version is tried again later.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from pipeline.errors import ModelUnusableError, ReadloopError, StorageError
from pipeline.records import CurrentModel, ModelChange
from pipeline.storage.store import open_store
from workers.follow import LOAD_ERRORS, Watch, checked_plan
from workers.models import PlannedModel, plan_model
from workers.serve.job import ServeJob
from workers.serve.model import ServedModel
from workers.serve.pointer import Choice, read_choice, write_choice
from workers.steps import is_device_fault

Between = Callable[[Callable[[], None]], float]
"""Runs something between two requests and returns how long it held them up, in seconds."""

_log = logging.getLogger("ray.serve")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that a replica may begin with: ``plan`` finds it.

    ``number`` is the registry's entry that is dealt with once it is loaded.
    """

    name: str
    number: int
    plan: Callable[[], PlannedModel]


class Swapper:
    """Loads a replica's first weights, then others. One thread at a time exchanges them.

    A choice by hand holds until the registry's pointer moves again. ``swaps`` counts the exchanges,
    ``last`` is the latest, ``trouble`` what keeps the current version from being used.
    """

    def __init__(self, job: ServeJob) -> None:
        self._job = job
        self._store = open_store(job.store, job.s3)
        self._exchanging = threading.Lock()
        self._watch = Watch(job.look, job.settings.follow_seconds) if job.look else None
        self.swaps = 0
        self.last: ModelChange | None = None
        self.trouble: ModelChange | None = None
        self.model = self._first()

    def follow(self, between: Between) -> None:
        """Look whether another version is current, and answer with it from then on.

        Raises:
            RuntimeError: the device is broken; nothing more can be done in this process.
        """
        if self._watch is None:
            return
        with self._exchanging:
            try:
                current = self._watch.news()
            except StorageError as error:
                self._keep("", f"the registry failed: {error}")
                return
            if current is not None:
                self._move_on(current, self._watch, between)
            elif self.trouble and not self.trouble.after:
                self.trouble = None

    def use(self, source: str, between: Between) -> str:
        """Answer with weights that somebody chose; returns their version.

        Raises:
            ModelUnusableError: they cannot be used; the old ones stay.
            StorageError: the store failed; the old ones stay.
            RuntimeError: the device is broken; nothing more can be done in this process.
        """
        with self._exchanging:
            current = self._job.look() if self._job.look else None
            number = current.number if current else 0
            try:
                planned = plan_model(source, self._job.s3, self._job.pool.precision)
                if planned.version != self.model.version:
                    self._exchange(planned, between)
            except LOAD_ERRORS as error:
                if isinstance(error, ReadloopError) or is_device_fault(error):
                    raise
                raise ModelUnusableError(f"model {source}: {_reason(error)}") from error
            write_choice(self._store, Choice(self._job.model.version, planned.source, number))
            if self._watch:
                self._watch.settle(number)
            self.trouble = None
            return self.model.version

    def _move_on(self, current: CurrentModel, watch: Watch, between: Between) -> None:
        try:
            if current.version != self.model.version:
                job = self._job
                self._exchange(checked_plan(current, job.s3, job.pool), between)
        except LOAD_ERRORS as error:
            if is_device_fault(error):
                raise
            watch.later()
            self._keep(current.version, _reason(error))
            return
        watch.settle(current.number)
        self.trouble = None

    def _exchange(self, planned: PlannedModel, between: Between) -> None:
        begun, before, model = time.perf_counter(), self.model.version, self.model
        engine = planned.loader(self._job.s3, self._job.pool)()
        load = time.perf_counter() - begun
        pause = between(lambda: model.exchange(engine))
        self.swaps += 1
        self.last = ModelChange(before, engine.version, pause, load)
        _log.info(
            "%s answers instead of %s: loaded in %.2f s, exchanged in %.2f ms",
            *(engine.version, before, load, 1e3 * pause),
        )

    def _keep(self, version: str, reason: str) -> None:
        """Note why the weights in use stay; a reason is logged once."""
        before = self.model.version
        trouble = ModelChange(before, version, 0.0, 0.0, reason)
        if trouble != self.trouble:
            _log.warning("%s stays in use, %s is not: %s", before, version or "what else", reason)
        self.trouble = trouble

    def _first(self) -> ServedModel:
        """Load what was chosen by hand, else what is current, else what the server began with."""
        failed: list[tuple[Candidate, str]] = []
        for candidate in self._candidates():
            try:
                planned = candidate.plan()
                model = ServedModel(self._job, planned.loader(self._job.s3, self._job.pool)())
            except LOAD_ERRORS as error:
                failed.append((candidate, _reason(error)))
                continue
            if self._watch and candidate.number:
                self._watch.settle(candidate.number)
            for other, reason in failed:
                self.trouble = ModelChange(model.version, other.name, 0.0, 0.0, reason)
                _log.warning("begins with %s, not with %s: %s", model.version, other.name, reason)
            return model
        raise ModelUnusableError("; ".join(f"{one.name}: {reason}" for one, reason in failed))

    def _candidates(self) -> Iterator[Candidate]:
        job, current = self._job, None
        if job.look:
            with suppress(StorageError):  # is asked again soon, and then told
                current = job.look()
        choice = read_choice(self._store, job.model.version)
        if choice and (current is None or current.number <= choice.number):
            source = choice.source
            plan = lambda: plan_model(source, job.s3, job.pool.precision)  # noqa: E731
            yield Candidate(source, choice.number, plan)
        if current is not None and current.version != job.model.version:
            now = current
            yield Candidate(now.version, now.number, lambda: checked_plan(now, job.s3, job.pool))
        yield Candidate(job.model.version, 0, lambda: job.model)


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, ReadloopError) else f"{type(error).__name__}: {error}"
