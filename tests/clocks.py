"""A clock whose hours pass as soon as somebody waits for them."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from pipeline.refreshing.clock import Clock


class FastClock(Clock):
    """The test's own thread passes the time by waiting; other threads wait until it has passed.

    ``waiting`` is called whenever the test's own thread has waited.
    """

    def __init__(self, now: datetime, waiting: Callable[[], None] = lambda: None) -> None:
        self._now = now
        self._owner = threading.get_ident()
        self.waiting = waiting

    def now(self) -> datetime:
        """Return the time that has been reached."""
        return self._now.astimezone(UTC)

    def pass_time(self, **amount: float) -> None:
        """Let days, hours, minutes or seconds pass."""
        self._now += timedelta(**amount)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Pass so many seconds, or wait until they have passed."""
        end = self._now + timedelta(seconds=seconds)
        if threading.get_ident() == self._owner:
            self._now = end
            self.waiting()
            return event.is_set()
        while self._now < end and not event.is_set():
            time.sleep(0.001)
        return event.is_set()
