"""The ``refresh`` part of a run file: when to learn again, and how much to label anew."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from pipeline.settings import Settings

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = 10 * 366 * 86_400  # seconds
_DURATION = re.compile(r"(\d+)([smhd])")


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("write a number and a unit: 90s, 30m, 6h or 1d")
    seconds = int(found[1]) * _UNITS[found[2]]
    if seconds > _LONGEST:
        raise ValueError("is longer than ten years")
    return timedelta(seconds=seconds)


def _written(duration: timedelta) -> str:
    """Return a duration as a run file holds it."""
    return f"{round(duration.total_seconds())}s"


def _schedule(text: str) -> str:
    try:
        CronSim(text, datetime.now(UTC))
    except CronSimError as error:
        raise ValueError(f"is no cron expression ({error}); every day at 3: '0 3 * * *'") from error
    return text


def _zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("is no time zone; write a name such as UTC or Europe/Berlin")
    return name


Duration = Annotated[
    timedelta, BeforeValidator(_duration), PlainSerializer(_written, when_used="json")
]
_EVERY = timedelta(hours=1)


class RefreshSettings(Settings):
    """When a refresh learns, and what it labels anew afterwards.

    ``at_least`` so many new corrections are needed. ``every`` is the shortest time between the
    beginnings of two refreshes; ``--watch`` looks for new corrections every ``poll``. With ``cron``
    it begins at those times of ``timezone`` only. ``relabel`` is the most images that a promoted
    version labels anew. ``lease`` is how long a refresh that died keeps others out.
    """

    at_least: Annotated[int, Field(ge=1)] = 50
    every: Duration = _EVERY
    cron: Annotated[str, AfterValidator(_schedule)] | None = None
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    poll: Annotated[Duration, Field(ge=timedelta(seconds=1))] = timedelta(minutes=1)
    relabel: Annotated[int, Field(ge=0)] | Literal["all"] = 10_000
    lease: Annotated[Duration, Field(ge=timedelta(seconds=3))] = timedelta(minutes=1)

    @model_validator(mode="after")
    def _one_schedule(self) -> Self:
        if self.cron and self.every != _EVERY:
            raise ValueError("'every' and 'cron' exclude each other: leave one out")
        return self

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of ``cron``."""
        return ZoneInfo(self.timezone)

    @property
    def most_images(self) -> int | None:
        """The most images to label anew, None for all."""
        return None if self.relabel == "all" else self.relabel
