"""The line before the model: order, drops, shared answers, a bound."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from tests.workers.serve.conftest import finished
from workers.serve.line import BusyError, Line, SupersededError


def test_a_waiting_request_is_superseded_and_a_running_one_is_not() -> None:
    done: list[str] = []

    async def three() -> list[str | BaseException]:
        line: Line[str] = Line(10)
        release = threading.Event()
        first = asyncio.ensure_future(line.run(1, "a", _blocked(release, "first", done)))
        await asyncio.sleep(0.05)
        second = asyncio.ensure_future(line.run(1, "b", _noted("second", done)))
        await asyncio.sleep(0.05)
        third = asyncio.ensure_future(line.run(1, "c", _noted("third", done)))
        other = asyncio.ensure_future(line.run(2, "b", _noted("other task", done)))
        await asyncio.sleep(0.05)
        release.set()
        found = await asyncio.gather(first, second, third, other, return_exceptions=True)
        assert line.dropped == 1
        return found

    first, second, third, other = finished(three())
    assert (first, third, other) == ("first", "third", "other task")
    assert isinstance(second, SupersededError)
    assert done == ["first", "third", "other task"]


def test_equal_requests_share_one_answer() -> None:
    done: list[str] = []

    async def twice() -> list[str]:
        line: Line[str] = Line(10)
        release = threading.Event()
        work = _blocked(release, "once", done)
        both = [asyncio.ensure_future(line.run(1, "same", work)) for _ in range(2)]
        await asyncio.sleep(0.05)
        release.set()
        found = await asyncio.gather(*both)
        assert line.shared == 1
        assert await line.run(1, "same", _noted("later", done)) == "later"
        return found

    assert finished(twice()) == ["once", "once"]
    assert done == ["once", "later"]


def test_too_many_are_refused_and_room_comes_back() -> None:
    async def crowd() -> None:
        line: Line[str] = Line(2)
        release = threading.Event()
        waiting = [
            asyncio.ensure_future(line.run(n, "a", _blocked(release, "", []))) for n in (1, 2)
        ]
        await asyncio.sleep(0.05)
        with pytest.raises(BusyError):
            await line.run(3, "a", _noted("", []))
        release.set()
        await asyncio.gather(*waiting)
        assert await line.run(3, "a", _noted("in", [])) == "in"

    finished(crowd())


def test_an_error_reaches_who_asked() -> None:
    async def broken() -> None:
        line: Line[str] = Line(2)
        with pytest.raises(ValueError, match="broken"):
            await line.run(1, "a", _raising)
        assert await line.run(1, "a", _noted("in", [])) == "in"

    finished(broken())


def _noted(name: str, done: list[str]) -> Callable[[], str]:
    def work() -> str:
        done.append(name)
        return name

    return work


def _blocked(release: threading.Event, name: str, done: list[str]) -> Callable[[], str]:
    def work() -> str:
        assert release.wait(10)
        done.append(name)
        return name

    return work


def _raising() -> str:
    raise ValueError("broken")
