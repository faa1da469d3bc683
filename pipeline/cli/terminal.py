"""What a command owes its caller: nothing but results on standard output, and a clean stop."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from types import FrameType
from typing import TextIO

STDOUT, STDERR = 1, 2


@contextmanager
def chatter_on_stderr() -> Iterator[TextIO]:
    """Send to standard error what libraries and Ray would print on standard output.

    Yields what still leads to standard output.
    """
    sys.stdout.flush()
    real = os.dup(STDOUT)
    os.dup2(STDERR, STDOUT)
    try:
        with redirect_stdout(sys.stderr), os.fdopen(os.dup(real), "w", encoding="utf-8") as results:
            yield results
    finally:
        os.dup2(real, STDOUT)
        os.close(real)


@contextmanager
def stop_on_signals(
    meanwhile: str = "what has arrived is being committed",
) -> Iterator[threading.Event]:
    """Yield an event that the first SIGINT or SIGTERM sets; a second one ends the process.

    ``meanwhile`` tells the user what the first one waits for.
    """
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, _: FrameType | None) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)
        os.write(STDERR, f"stopping: {meanwhile}\n".encode())

    for number in before:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
