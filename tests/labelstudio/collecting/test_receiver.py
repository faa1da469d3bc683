"""The webhook receiver: who may cause a poll, and what it costs to try."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx
import pytest
from pydantic import SecretStr

from labelstudio.collecting.receiver import MOST_BYTES, SECRET_HEADER, SECRET_VARIABLE, Receiver
from pipeline.errors import ConfigError

SECRET = "0123456789abcdef-secret"


@dataclass
class Door:
    """A running receiver and how often it was told to look."""

    url: str = ""
    hints: list[float] = field(default_factory=list)

    def post(self, secret: str | None = SECRET, **request: object) -> int:
        """Call it; return the status."""
        headers = {} if secret is None else {SECRET_HEADER: secret}
        answer = httpx.post(self.url, headers=headers, timeout=10, trust_env=False, **request)  # type: ignore[arg-type]
        assert SECRET not in answer.text + str(answer.headers)
        return answer.status_code


@pytest.fixture
def door() -> Iterator[Door]:
    found = Door()
    hint = lambda: found.hints.append(time.monotonic())  # noqa: E731
    with Receiver("127.0.0.1", 0, SecretStr(SECRET), hint) as receiver:
        found.url = f"http://127.0.0.1:{receiver.port}/"
        yield found


def test_a_call_that_knows_the_secret_is_a_hint(door: Door) -> None:
    assert door.post(json={"action": "ANNOTATION_CREATED"}) == 204
    assert len(door.hints) == 1


@pytest.mark.parametrize("secret", [None, "", "0123456789abcdef-secreT", SECRET + "x", SECRET[:-1]])
def test_without_the_secret_nothing_happens(door: Door, secret: str | None) -> None:
    assert door.post(secret) == 401
    assert door.hints == []


def test_other_ways_in_are_closed(door: Door) -> None:
    headers = {SECRET_HEADER: SECRET}
    assert httpx.get(door.url, headers=headers, trust_env=False).status_code == 405
    assert httpx.post(door.url + "x", headers=headers, trust_env=False).status_code == 404
    assert door.hints == []


def test_bodies_are_bounded(door: Door) -> None:
    assert door.post(content=b"x" * MOST_BYTES) == 204
    assert door.post(content=b"x" * (MOST_BYTES + 1)) == 413
    assert door.post(content=iter([b"x" * 40_000] * 3)) == 413
    assert len(door.hints) == 1


def test_a_large_body_is_refused_before_it_is_sent(door: Door) -> None:
    host, port = httpx.URL(door.url).host, httpx.URL(door.url).port
    with socket.create_connection((host, port or 0), timeout=5) as caller:
        lines = [
            "POST / HTTP/1.1",
            f"Host: {host}",
            f"{SECRET_HEADER}: {SECRET}",
            "Content-Length: 5000000000",
        ]
        caller.sendall("\r\n".join([*lines, "", ""]).encode())
        assert caller.recv(100).startswith(b"HTTP/1.1 413")


def test_a_body_that_never_ends_is_not_waited_for(door: Door) -> None:
    host, port = httpx.URL(door.url).host, httpx.URL(door.url).port
    with socket.create_connection((host, port or 0), timeout=10) as caller:
        lines = [
            "POST / HTTP/1.1",
            f"Host: {host}",
            f"{SECRET_HEADER}: {SECRET}",
            "Content-Length: 10",
        ]
        caller.sendall("\r\n".join([*lines, "", "abc"]).encode())
        assert caller.recv(100).startswith(b"HTTP/1.1 408")
        assert door.post() == 204


def test_a_storm_is_answered(door: Door) -> None:
    with ThreadPoolExecutor(16) as callers:
        answers = list(callers.map(lambda _: door.post(json={"action": "x"}), range(200)))
    assert set(answers) <= {204, 503}
    assert answers.count(204) == len(door.hints) > 150


@pytest.mark.parametrize("secret", ["", "short", "with a blank 0123456789", "x" * 201])
def test_a_weak_secret_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(ConfigError, match=SECRET_VARIABLE) as caught:
        Receiver("127.0.0.1", 0, SecretStr(secret), lambda: None)
    assert not secret or secret not in str(caught.value)


def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}"):
            Receiver("127.0.0.1", port, SecretStr(SECRET), lambda: None).__enter__()


def test_its_thread_ends_with_it(door: Door) -> None:
    with Receiver("127.0.0.1", 0, SecretStr(SECRET), lambda: None):
        assert sum(thread.name == "webhooks" for thread in threading.enumerate()) == 2
    assert sum(thread.name == "webhooks" for thread in threading.enumerate()) == 1
    assert door.post() == 204
