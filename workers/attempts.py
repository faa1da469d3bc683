"""How often replicas died on an image, so that an image that kills them cannot do so for ever.

Ray restarts a dead replica and hands it the same batch again, without end. Each replica therefore
says what it begins and what it has finished; who begins again what was never finished learns how
often that happened.
"""

from dataclasses import dataclass
from typing import Protocol

ALLOWED = 2
"""An image may be begun this often; after that it is recorded as failed."""

LOADING = "loading the model"
"""What a replica begins before any image."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """``number`` counts from 1; ``reason`` is what ended the last one, empty if unknown.

    ``hopeless`` says that replicas die again and again with nothing finished in between: then
    the model, or the machine, is at fault and not the image.
    """

    number: int
    reason: str
    hopeless: bool


class AttemptBook:
    """The counts. It lives in one process, and holds only what is not finished.

    ``patience`` is the number of repeats, with nothing finished in between, that are put up with;
    all replicas that load their model at the same time count as repeats of one another.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._counts: dict[str, int] = {}
        self._reasons: dict[str, str] = {}
        self._repeats = 0

    def begin(self, name: str) -> Attempt:
        """Count one attempt and return how it stands."""
        number = self._counts.get(name, 0) + 1
        self._counts[name] = number
        self._repeats += number > 1
        return Attempt(number, self._reasons.get(name, ""), self._repeats > self._patience)

    def explain(self, name: str, reason: str) -> None:
        """Keep why the attempt under way ends its process."""
        self._reasons[name] = reason

    def finish(self, name: str) -> None:
        """Forget what has ended without harm to its replica."""
        self._counts.pop(name, None)
        self._reasons.pop(name, None)
        self._repeats = 0


class Attempts(Protocol):
    """What a replica needs of an :class:`AttemptBook`, wherever that lives."""

    def begin(self, name: str) -> Attempt:
        """See :meth:`AttemptBook.begin`."""
        ...

    def explain(self, name: str, reason: str) -> None:
        """See :meth:`AttemptBook.explain`."""
        ...

    def finish(self, name: str) -> None:
        """See :meth:`AttemptBook.finish`."""
        ...
