"""A replica's engine: loaded when first needed, exchanged between batches when told to follow.

The old one is dropped before the new one is loaded, because a GPU may not hold two. If the new
one cannot be loaded, the old one is loaded again and goes on.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.errors import ModelUnusableError, ReadloopError, StorageError
from pipeline.records import CurrentModel, ModelChange
from workers.attempts import ALLOWED, LOADING, Attempts
from workers.follow import LOAD_ERRORS, Following, Watch, release_memory
from workers.guard import EndsProcess, begin
from workers.steps import Engine, is_device_fault

Load = Callable[[], Engine]


@dataclass(frozen=True)
class Ready:
    """Another version that has become current: its files are here and have been checked."""

    current: CurrentModel
    load: Load


class ReplicaEngine:
    """Several threads may :meth:`look`; one at a time may :meth:`take`.

    Args:
        load: loads the engine to begin with.
        expected: its version and settings; an engine with others is refused.
        follow: how to follow the current version, None to stay with the first.
        attempts: counts what ends the process.
    """

    def __init__(
        self, load: Load, expected: tuple[str, str], follow: Following | None, attempts: Attempts
    ) -> None:
        self._first = load
        self._load = load
        self._expected = expected
        self._version = expected[0]
        self._follow = follow
        self._watch = Watch(follow.look, follow.seconds) if follow else None
        self._attempts = attempts
        self._engine: Engine | None = None

    def look(self) -> Ready | ModelChange | None:
        """Look, if it is time, whether another version is current, and make that ready.

        The engine goes on meanwhile. Returns a change with a reason if it cannot be made ready.
        """
        if self._follow is None or self._watch is None:
            return None
        try:
            current = self._watch.news()
        except StorageError as error:
            return ModelChange(self._version, "", 0.0, 0.0, f"the registry failed: {error}")
        if current is None:
            return None
        if current.version == self._version:
            self._watch.settle(current.number)
            return None
        try:
            return Ready(current, self._follow.prepare(current))
        except LOAD_ERRORS as error:
            retryable = isinstance(error, StorageError)
            return self._kept(current, _reason(error), 0.0, retryable=retryable)

    def take(
        self, batch: str, found: Ready | ModelChange | None
    ) -> tuple[Engine, ModelChange | None]:
        """Return the engine for a batch, with what became of the version that a look has found.

        Raises:
            ModelUnusableError: the engine cannot be loaded, is another than expected, or ends its
                process whatever the batch.
        """
        change = self._change(batch, found) if isinstance(found, Ready) else found
        return self._loaded(), change

    def _change(self, batch: str, ready: Ready) -> ModelChange | None:
        current = ready.current
        assert self._watch is not None
        if self._watch.settled(current.number):  # another thread's batch was first
            return None
        name = f"changing to {current.version} before {batch}"
        attempt = begin(self._attempts, name, f"changing to {current.version}")
        began = time.perf_counter()
        if attempt.number > ALLOWED:
            self._attempts.finish(name)
            why = attempt.reason or "the process was killed, crashed or ran out of memory"
            return self._kept(current, f"loading it ended the process {ALLOWED} times: {why}", 0.0)
        before = self._version if self._engine is not None else ""
        self._engine = None
        release_memory()
        loading = time.perf_counter()
        with EndsProcess(self._attempts, name):
            engine = _loaded_or_reason(ready)
        self._attempts.finish(name)
        if isinstance(engine, str):
            release_memory()
            self._loaded()
            return self._kept(current, engine, time.perf_counter() - began)
        self._engine, self._load, self._version = engine, ready.load, current.version
        self._watch.settle(current.number)
        now = time.perf_counter()
        return ModelChange(before, current.version, now - began if before else 0.0, now - loading)

    def _kept(
        self, current: CurrentModel, reason: str, pause: float, *, retryable: bool = False
    ) -> ModelChange:
        assert self._watch is not None
        if retryable:
            self._watch.later()
        else:
            self._watch.settle(current.number)
        return ModelChange(self._version, current.version, pause, 0.0, reason)

    def _loaded(self) -> Engine:
        if self._engine is None:
            begin(self._attempts, LOADING, LOADING)
            with EndsProcess(self._attempts, LOADING):
                self._engine = self._checked(self._load())
            self._attempts.finish(LOADING)
        return self._engine

    def _checked(self, engine: Engine) -> Engine:
        found = (engine.version, engine.settings_json)
        if self._load is self._first and found != self._expected:
            raise ModelUnusableError(
                f"the model is {found}, the run was planned for {self._expected}: "
                "its files changed in the meantime; run again"
            )
        return engine


def _loaded_or_reason(ready: Ready) -> Engine | str:
    """Load a version, or say why not; the error itself would keep half a model in memory."""
    try:
        engine = ready.load()
        if engine.version != ready.current.version:
            raise ModelUnusableError(f"its files are those of version {engine.version}")
    except LOAD_ERRORS as error:
        if is_device_fault(error):
            raise
        return _reason(error)
    return engine


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, ReadloopError) else f"{type(error).__name__}: {error}"
