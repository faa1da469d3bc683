"""The time, as a refresh and its lease see it."""

import threading
from datetime import UTC, datetime


class Clock:
    """The machine's clock. A test gives another one, whose hours pass at once."""

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return datetime.now(UTC)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait so long, or until an event is set; return whether it is."""
        return event.wait(seconds)
