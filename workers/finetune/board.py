"""What workers tell the driver while they train: an actor that outlives them."""

from collections import deque
from typing import Any

import ray

from pipeline.errors import (
    ConfigError,
    InputError,
    MissingError,
    ModelUnusableError,
    PictureError,
    ReadloopError,
    StoppedError,
    StorageError,
)
from workers.finetune.records import StepReport

_LONGEST = 10_000
_KINDS = {
    kind.__name__: kind
    for kind in (
        ConfigError,
        InputError,
        MissingError,
        ModelUnusableError,
        PictureError,
        StoppedError,
        StorageError,
    )
}


class Notes:
    """The notes themselves: steps not yet fetched, and why the job has to end, if it has."""

    def __init__(self) -> None:
        self._steps: deque[StepReport] = deque(maxlen=_LONGEST)
        self._error = ("", "")

    def step(self, report: StepReport) -> None:
        """Keep a step."""
        self._steps.append(report)

    def fail(self, kind: str, message: str) -> None:
        """Keep why the job has to end; the first reason counts."""
        if not self._error[0]:
            self._error = kind, message

    def error(self) -> tuple[str, str]:
        """Return kind and message of what ended the job, empty while nothing has."""
        return self._error

    def take(self) -> list[StepReport]:
        """Return the steps since the last call."""
        steps = list(self._steps)
        self._steps.clear()
        return steps


class Board:
    """The notes in a Ray actor of their own; copies of this object reach the same."""

    def __init__(self) -> None:
        self._notes: Any = ray.remote(num_cpus=0)(Notes).remote()

    def step(self, report: StepReport) -> None:
        """Tell of a step; does not wait."""
        self._notes.step.remote(report)

    def step_unless_failed(self, report: StepReport) -> None:
        """Tell of a step, and leave if the job has to end.

        Raises:
            ReadloopError: why it has to.
        """
        self.step(report)
        self.raise_failure()

    def fail(self, error: Exception) -> None:
        """Tell why the job has to end; returns when that is kept."""
        ray.get(self._notes.fail.remote(type(error).__name__, str(error)))

    def failed(self) -> bool:
        """Return whether the job has to end."""
        return bool(ray.get(self._notes.error.remote())[0])

    def take(self) -> list[StepReport]:
        """Return the steps since the last call."""
        steps: list[StepReport] = ray.get(self._notes.take.remote())
        return steps

    def raise_failure(self) -> None:
        """Raise what ended the job, if anything did.

        Raises:
            ReadloopError: of the kind that the worker met.
        """
        kind, message = ray.get(self._notes.error.remote())
        if kind:
            raise _KINDS.get(kind, _other(kind))(message)


def _other(kind: str) -> type[ReadloopError]:
    """Return the error for one of the model library."""
    return ModelUnusableError if kind == "CheckpointError" else ReadloopError
