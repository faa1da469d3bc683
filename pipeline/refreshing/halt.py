"""A reason to stop that comes on top of another one."""

import threading
import time

_LOOK_SECONDS = 0.2


class Halt(threading.Event):
    """An event that is also set when ``other`` is; setting it leaves ``other`` alone."""

    def __init__(self, other: threading.Event) -> None:
        super().__init__()
        self._other = other

    def is_set(self) -> bool:
        """Return whether either is set."""
        return super().is_set() or self._other.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for either, ``timeout`` seconds at most; return whether one is set."""
        end = float("inf") if timeout is None else time.monotonic() + timeout
        while not self.is_set() and (left := end - time.monotonic()) > 0:
            super().wait(min(left, _LOOK_SECONDS))
        return self.is_set()
