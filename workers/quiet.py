"""Keeps the log lines of Ray's native code off standard error; Ray has them in its log files.

They are written straight to file descriptor 2 and include warnings about Ray Data's own doings
that a user can do nothing about.
"""

import io
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

STDERR = 2
NATIVE_LOG_LINE = re.compile(rb"\[[\d\- :,.]+ [A-Z] \d+ \d+\] .*\.cc:\d+: ")
DRAIN_SECONDS = 2.0


@contextmanager
def without_native_logs() -> Iterator[None]:
    """Let everything pass to standard error but native log lines; Python's output goes direct."""
    real = os.dup(STDERR)
    source, sink = os.pipe()
    os.dup2(sink, STDERR)
    os.close(sink)
    copier = threading.Thread(target=_copy, args=(source, real), daemon=True)
    copier.start()
    direct = io.TextIOWrapper(io.FileIO(os.dup(real), "w"), "utf-8", "replace", write_through=True)
    try:
        with direct, redirect_stderr(direct):
            yield
    finally:
        os.dup2(real, STDERR)  # closes the pipe's last end: the copier sees the end of the file
        copier.join(DRAIN_SECONDS)


def _copy(source: int, target: int) -> None:
    with os.fdopen(source, "rb") as lines, os.fdopen(target, "wb", buffering=0) as out:
        for line in lines:
            if not NATIVE_LOG_LINE.match(line):
                out.write(line)
