"""A process that refreshes and sends itself a signal (SIGKILL, SIGSTOP) at a chosen point.

``doomed.py RUN.yaml SIGNAL CLASS.METHOD WHEN COUNT TIME``: the signal comes ``before`` or ``after``
(WHEN) the COUNTth call of a method. TIME is what its clock shows.
"""

import os
import signal
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from labelstudio.client import LabelStudioClient
from pipeline.config import load_run_file
from pipeline.refresh import refresh_once
from pipeline.refreshing.shelf import Steps
from pipeline.storage.tables import PredictionTables
from tests.clocks import FastClock

OWNERS: dict[str, Any] = {
    owner.__name__: owner for owner in (LabelStudioClient, PredictionTables, Steps)
}


def doom(name: str, point: str, when: str, count: int) -> None:
    """Let the signal come at a call of a method."""
    number = signal.Signals[name]
    owner, _, method = point.partition(".")
    real = getattr(OWNERS[owner], method)
    calls: list[int] = []

    def deadly(self: Any, *arguments: Any) -> Any:
        calls.append(1)
        if when == "before" and len(calls) == count:
            os.kill(os.getpid(), number)
        answer = real(self, *arguments)
        if when == "after" and len(calls) == count:
            os.kill(os.getpid(), number)
        return answer

    setattr(OWNERS[owner], method, deadly)


def main() -> None:
    """Refresh, unless the signal is deadly."""
    path, name, point, when, count, time = sys.argv[1:]
    doom(name, point, when, int(count))
    refresh_once(load_run_file(Path(path)), clock=FastClock(datetime.fromisoformat(time)))


if __name__ == "__main__":
    main()
