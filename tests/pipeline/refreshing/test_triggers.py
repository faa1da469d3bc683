"""When a refresh is due: by counts, by time, by cron expressions across changes of the clocks."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config import load_run_file
from pipeline.errors import ConfigError
from pipeline.refreshing.settings import RefreshSettings
from pipeline.refreshing.triggers import Schedule, decide, pause

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def settings(**changes: Any) -> RefreshSettings:
    return RefreshSettings.model_validate(changes)


@pytest.mark.parametrize(
    ("new", "last", "learn", "why"),
    [
        (9, None, False, "9 new corrections, refresh.at_least is 10"),
        (10, None, True, "10 new corrections"),
        (50, NOON - timedelta(hours=5), False, "not before 2026-03-01 13:00:00"),
        (50, NOON - timedelta(hours=6), True, "50 new corrections"),
    ],
)
def test_enough_corrections_and_not_too_soon(
    new: int, last: datetime | None, learn: bool, why: str
) -> None:
    wish = decide(settings(at_least=10, every="6h"), new, last, NOON)
    assert (wish.learn, wish.new) == (learn, new)
    assert why in wish.why


def begins(schedule: Schedule, now: datetime) -> bool:
    """Look as a watch does that begins whatever is due."""
    due = schedule.is_due(now)
    if due:
        schedule.settle(now)
    return due


def test_each_time_of_an_expression_comes_once() -> None:
    schedule = Schedule(settings(cron="0 3 * * *"), NOON)
    assert schedule.told() == "; the next time is 2026-03-02 03:00:00+00:00"
    began = [begins(schedule, NOON + timedelta(hours=hours)) for hours in range(40)]
    assert [hour for hour, one in enumerate(began) if one] == [15, 39]


def test_times_that_were_missed_come_once() -> None:
    schedule = Schedule(settings(cron="0 3 * * *"), NOON - timedelta(days=9))
    assert [begins(schedule, NOON) for _ in range(3)] == [True, False, False]


def test_a_time_is_due_until_it_is_settled() -> None:
    schedule = Schedule(settings(cron="0 3 * * *"), NOON)
    night = NOON + timedelta(hours=16)
    assert [schedule.is_due(night) for _ in range(3)] == [True, True, True]
    schedule.settle(NOON - timedelta(days=3))
    assert schedule.is_due(night)
    schedule.settle(night)
    assert not schedule.is_due(night)


def test_without_an_expression_every_time_will_do() -> None:
    schedule = Schedule(settings(), NOON)
    assert all(begins(schedule, NOON) for _ in range(3))
    assert schedule.told() == ""


@pytest.mark.parametrize(
    ("since", "times"),
    [
        # 2026-03-29: clocks go from 2:00 to 3:00, there is no 2:30
        ((3, 28), ["03-28T02:30+01:00", "03-29T03:00+02:00", "03-30T02:30+02:00"]),
        # 2026-10-25: clocks go from 3:00 back to 2:00, 2:30 is there twice and comes once
        ((10, 24), ["10-24T02:30+02:00", "10-25T02:30+02:00", "10-26T02:30+01:00"]),
    ],
)
def test_times_across_a_change_of_the_clocks(since: tuple[int, int], times: list[str]) -> None:
    daily = settings(cron="30 2 * * *", timezone="Europe/Berlin")
    start = datetime(2026, *since, tzinfo=UTC)
    schedule = Schedule(daily, start)
    found = []
    for minutes in range(0, 3 * 24 * 60, 10):
        wanted = schedule.next_time()
        if begins(schedule, start + timedelta(minutes=minutes)):
            found.append(wanted.isoformat(timespec="minutes")[5:])
    assert found == times


def test_failures_make_the_pause_longer() -> None:
    minutes = [pause(settings(), failures) / timedelta(minutes=1) for failures in (0, 1, 2, 99)]
    assert minutes == [1, 2, 4, 60]


@pytest.mark.parametrize(
    ("refresh", "problem"),
    [
        ({"every": "6 hours"}, "write a number and a unit"),
        ({"every": "999999999999d"}, "longer than ten years"),
        ({"cron": "0 25 * * *"}, "is no cron expression"),
        ({"cron": "0 3 * * *", "every": "6h"}, "exclude each other"),
        ({"timezone": "Mars/Olympus"}, "is no time zone"),
        ({"relabel": -1}, "greater than or equal to 0"),
        ({"lease": "1s"}, "greater than or equal to"),
        ({"at_most": 5}, "unknown key"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, refresh: dict[str, Any], problem: str) -> None:
    content = {"name": "a", "store": "s", "source": {"images": "i"}, "model": "registry"}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({**content, "refresh": refresh}))
    with pytest.raises(ConfigError, match=problem) as told:
        load_run_file(path)
    assert "refresh" in str(told.value)


@pytest.mark.parametrize("written", [{"every": "6h", "lease": "90s"}, {"cron": "0 3 * * *"}])
def test_settings_that_were_written_down_are_read_again(written: dict[str, str]) -> None:
    settings = RefreshSettings.model_validate(written)
    assert RefreshSettings.model_validate(settings.model_dump(mode="json")) == settings
