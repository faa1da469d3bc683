"""Who may enter, and how large a body may be."""

import base64
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from pipeline.errors import ConfigError
from tests.workers.serve.conftest import finished
from workers.serve.gate import TooLargeError, bounded_body, checked_secret, may_enter

SECRET = SecretStr("a long enough secret")


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def test_the_secret_enters() -> None:
    assert may_enter(basic(f"readloop:{SECRET.get_secret_value()}"), SECRET)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic !!!",
        "Basic é",
        basic("readloop:"),
        basic("readloop:a long enough secre"),
        basic("somebody:a long enough secret"),
        f"Bearer {SECRET.get_secret_value()}",
    ],
)
def test_anything_else_does_not(header: str) -> None:
    assert not may_enter(header, SECRET)


def test_a_short_or_missing_secret_is_refused() -> None:
    for value in ("", "short"):
        with pytest.raises(ConfigError, match="READLOOP_BACKEND_SECRET"):
            checked_secret(value)


async def chunks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"0123456789"


def test_bodies_are_bounded_whatever_they_declare() -> None:
    assert finished(bounded_body(chunks(2), "20", 20)) == b"01234567890123456789"
    for declared in ("", "5", "30"):
        with pytest.raises(TooLargeError):
            finished(bounded_body(chunks(3), declared, 20))
