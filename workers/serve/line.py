"""The line before the model: bounded, and without what nobody waits for any more.

A browser shows the answer to its last gesture on a task only. So a request that still waits when
a later one about the same task arrives is dropped, and one that is the same as the one before it
shares its answer.
"""

import asyncio
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class BusyError(Exception):
    """Too many requests wait already."""


class SupersededError(Exception):
    """A later request about the same task has arrived."""


class Line(Generic[Answer]):
    """Runs work one after another in a thread; used from one event loop.

    Args:
        most: how many may wait, the one being worked on included.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._turn = asyncio.Lock()
        self._latest: dict[Hashable, _Job[Answer]] = {}
        self._waiting = 0
        self.dropped = 0
        self.shared = 0

    async def run(self, key: Hashable, digest: str, work: Callable[[], Answer]) -> Answer:
        """Return what ``work`` returns, or raise what it raises.

        Args:
            key: what a later request supersedes: the task.
            digest: equal for equal requests.
            work: called in the thread.

        Raises:
            BusyError: too many wait.
            SupersededError: a later request with that key has arrived before its turn.
        """
        latest = self._latest.get(key)
        if latest is not None and latest.digest == digest:
            self.shared += 1
        else:
            latest = self._enter(key, _Job(digest, work))
        assert latest.done is not None
        return await asyncio.shield(latest.done)

    async def between(self, work: Callable[[], None]) -> float:
        """Run ``work`` in the thread between two jobs; returns how long they waited, in seconds."""
        async with self._turn:
            begun = time.perf_counter()
            await asyncio.get_running_loop().run_in_executor(self._thread, work)
            return time.perf_counter() - begun

    def _enter(self, key: Hashable, job: "_Job[Answer]") -> "_Job[Answer]":
        if self._waiting >= self._most:
            raise BusyError
        self._waiting += 1
        self._latest[key] = job
        job.done = asyncio.ensure_future(self._serve(key, job))
        return job

    async def _serve(self, key: Hashable, job: "_Job[Answer]") -> Answer:
        try:
            async with self._turn:
                if self._latest.get(key) is not job:
                    self.dropped += 1
                    raise SupersededError
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._thread, job.work)
        finally:
            self._waiting -= 1
            if self._latest.get(key) is job:
                del self._latest[key]


@dataclass(eq=False)
class _Job(Generic[Answer]):
    digest: str
    work: Callable[[], Answer]
    done: "asyncio.Future[Answer] | None" = None
