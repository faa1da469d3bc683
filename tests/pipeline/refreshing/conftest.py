"""A clock that a test moves by hand."""

from datetime import UTC, datetime

import pytest

from tests.clocks import FastClock


@pytest.fixture
def clock() -> FastClock:
    """Noon of a day in March."""
    return FastClock(datetime(2026, 3, 1, 12, tzinfo=UTC))
