"""What a replica does under guard: it is counted, and an error that is no row's ends the process.

Ray then starts a fresh one, and the count tells it what ended the last.
"""

import os
import sys
import traceback
from types import TracebackType

from pipeline.errors import ModelUnusableError, ReadloopError
from workers.attempts import Attempt, Attempts

BROKEN_EXIT_CODE = 70


def begin(attempts: Attempts, name: str, doing: str) -> Attempt:
    """Count the beginning of something.

    Raises:
        ModelUnusableError: replicas end again and again, whatever they do.
    """
    attempt = attempts.begin(name)
    if attempt.hopeless:
        why = attempt.reason or "no reason is known; see Ray's logs, and mind the memory"
        raise ModelUnusableError(f"replicas end again and again, last while {doing}: {why}")
    return attempt


class EndsProcess:
    """Ends the process on any error that is not meant for the user, after noting the reason."""

    def __init__(self, attempts: Attempts, name: str) -> None:
        self._attempts = attempts
        self._name = name

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave, or end the process without any clean-up that a broken device could hang."""
        if kind is None or issubclass(kind, ReadloopError):
            return
        traceback.print_exception(kind, error, trace)
        sys.stderr.flush()
        self._attempts.explain(self._name, f"{kind.__name__}: {error}")
        os._exit(BROKEN_EXIT_CODE)
