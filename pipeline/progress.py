"""Progress on standard error: a bar on a terminal, elsewhere a line now and then."""

import sys
import time
from typing import NoReturn, TextIO

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts one step after another; a step is begun, advanced and ended."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._bar: tqdm[NoReturn] | None = None
        self._what = ""
        self._done = 0
        self._told = 0
        self._total = 0
        self._next_line = 0.0

    def say(self, text: str) -> None:
        """Write one line."""
        tqdm.write(text, file=self._stream)

    def begin(self, what: str) -> None:
        """Begin a step; ``what`` are the things that it counts."""
        self.end()
        self._what, self._done, self._total = what, 0, 0
        self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
        if self._stream.isatty():
            self._bar = tqdm(desc=what, file=self._stream, unit="", dynamic_ncols=True)

    def expect(self, total: int) -> None:
        """Set how many things there are, as far as is known."""
        self._total = total
        if self._bar is not None:
            self._bar.total = total

    def advance(self, count: int) -> None:
        """Say that so many more are done."""
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        elif time.monotonic() >= self._next_line:
            self._line()

    def end(self) -> None:
        """End the step."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        elif self._done > self._told:
            self._line()
        self._done = self._told = 0

    def _line(self) -> None:
        self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
        self._told = self._done
        of = f" of {self._total}" if self._total else ""
        self.say(f"{self._what}: {self._done}{of}")
