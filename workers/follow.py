"""Following the current model: when to look, and how another version is made ready.

Who decides what is current lies elsewhere: workers are given something to ask.
"""

import gc
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.errors import ModelUnusableError, ReadloopError
from pipeline.records import CurrentModel
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import open_store
from workers.models import PlannedModel, plan_model
from workers.settings import PoolSettings
from workers.steps import PREDICT_ERRORS, Engine

Look = Callable[[], CurrentModel | None]
LOAD_ERRORS = (ReadloopError, OSError, TypeError, AssertionError, *PREDICT_ERRORS)
"""What the files of a bad version may raise when they are loaded."""

LONGEST_WAIT = 600.0
"""Seconds between two tries of a version that could not be loaded, at most."""


@dataclass(frozen=True)
class Following:
    """How a replica follows the current version; it is pickled.

    ``look`` is asked every ``seconds``; ``prepare`` checks the files of a version while the old
    one is still in use, and returns what loads it.
    """

    look: Look
    prepare: Callable[[CurrentModel], Callable[[], Engine]]
    seconds: float


@dataclass(frozen=True, slots=True)
class Preparer:
    """Makes a version ready for a replica of a pool, and notes in the store where it came from."""

    store: str
    s3: S3Settings
    pool: PoolSettings

    def __call__(self, current: CurrentModel) -> Callable[[], Engine]:
        """Check the files, fetched to this machine if need be, and return what loads them.

        Raises:
            ModelUnusableError: they are missing or incomplete, or those of another version.
            StorageError: the store refused or broke.
        """
        planned = checked_plan(current, self.s3, self.pool)
        planned.record(open_store(self.store, self.s3))
        return planned.loader(self.s3, self.pool)


def checked_plan(current: CurrentModel, s3: S3Settings, pool: PoolSettings) -> PlannedModel:
    """Return how to load the current version, whose files must be those that were recorded.

    Raises:
        ModelUnusableError: they are missing, incomplete, or were changed.
        StorageError: the store refused or broke.
    """
    planned = plan_model(current.source, s3, pool.precision)
    if planned.version != current.version:
        raise ModelUnusableError(
            f"{current.source}: its files are those of version {planned.version}, so they were "
            f"changed after version {current.version} was recorded"
        )
    return planned


class Watch:
    """Tells at most every so many seconds whether another version is current. Threads may share it.

    Args:
        look: what to ask.
        seconds: between two looks, at least.
        clock: seconds that only grow.
    """

    def __init__(
        self, look: Look, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._look = look
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._next: float | None = None
        self._settled = 0
        self._wait = seconds

    def news(self) -> CurrentModel | None:
        """Return what has become current since it was last settled, None if nothing or too early.

        Raises:
            StorageError: the store failed; it is asked again when it is time.
        """
        with self._lock:
            now = self._clock()
            if self._next is not None and now < self._next:
                return None
            self._next = now + self._seconds
        current = self._look()
        return None if current is None or self.settled(current.number) else current

    def settle(self, number: int) -> None:
        """Take an entry of the chain as dealt with: there are news only after it."""
        with self._lock:
            self._settled = max(self._settled, number)
            self._wait = self._seconds

    def settled(self, number: int) -> bool:
        """Return whether an entry of the chain is dealt with, or older than one that is."""
        with self._lock:
            return number <= self._settled

    def later(self) -> float:
        """Put the next look off, longer each time until something is settled; returns seconds."""
        with self._lock:
            self._wait = min(2 * self._wait, max(LONGEST_WAIT, self._seconds))
            self._next = self._clock() + self._wait
            return self._wait


def release_memory() -> None:
    """Give back what a model held that nothing refers to any more, on a GPU too."""
    gc.collect()
    from torch import cuda  # noqa: PLC0415  (drivers load no torch)

    cuda.empty_cache()
