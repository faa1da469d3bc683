"""Whether to learn now, and when to look again."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cronsim import CronSim

from pipeline.refreshing.settings import RefreshSettings

_MOST_DOUBLED = 12


@dataclass(frozen=True, slots=True)
class Wish:
    """Whether a refresh learns, and ``why`` or why not; ``new`` corrections there are."""

    learn: bool
    why: str
    new: int


def decide(settings: RefreshSettings, new: int, last: datetime | None, now: datetime) -> Wish:
    """Decide by the number of new corrections, and by when the last refresh began.

    Args:
        settings: the run's.
        new: corrections since then.
        last: when the last refresh began, None before the first.
        now: the time.
    """
    count = f"{new} new corrections"
    if new < settings.at_least:
        return Wish(learn=False, why=f"{count}, refresh.at_least is {settings.at_least}", new=new)
    if last and not settings.cron and now - last < settings.every:
        until = last + settings.every
        return Wish(learn=False, why=f"{count}, but not before {_time(until)}", new=new)
    return Wish(learn=True, why=f"{count}, refresh.at_least is {settings.at_least}", new=new)


class Schedule:
    """The times at which ``--watch`` may begin a refresh: always, or those of ``cron``.

    Args:
        settings: the run's.
        since: up to when all times are settled.
    """

    def __init__(self, settings: RefreshSettings, since: datetime) -> None:
        self._cron = settings.cron
        self._zone = settings.zone
        self._since = since

    def is_due(self, now: datetime) -> bool:
        """Return whether a time has come that is not settled."""
        return self._cron is None or self.next_time() <= now

    def settle(self, until: datetime) -> None:
        """Take all times up to ``until`` for dealt with."""
        self._since = max(self._since, until)

    def next_time(self) -> datetime:
        """Return the next time of the expression, in its own time zone."""
        assert self._cron, "without an expression, every time will do"
        return next(CronSim(self._cron, self._since.astimezone(self._zone)))

    def told(self) -> str:
        """Return when the next time is, empty when every time will do."""
        return f"; the next time is {_time(self.next_time())}" if self._cron else ""


def pause(settings: RefreshSettings, failures: int) -> timedelta:
    """Return how long to wait: ``poll``, twice as long after each failure, an hour at most."""
    longest = max(settings.poll, timedelta(hours=1))
    doubled: int = 2 ** min(failures, _MOST_DOUBLED)
    return min(settings.poll * doubled, longest)


def _time(time: datetime) -> str:
    return time.isoformat(sep=" ", timespec="seconds")
