"""A lease: one holder, renewals, a dead holder, and one that was suspended for too long."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from pipeline.errors import StoppedError
from pipeline.refreshing.lease import FOLDER, Lease, owner_of_this_process
from pipeline.storage.store import Store
from tests.clocks import FastClock

TERM = timedelta(minutes=1)


def test_of_many_that_take_a_lease_one_gets_it(any_store: Store, clock: FastClock) -> None:
    leases = [Lease(any_store, TERM, clock) for _ in range(12)]
    start = threading.Barrier(len(leases))

    def take(lease: Lease) -> str:
        start.wait()
        try:
            lease.take()
        except StoppedError as error:
            return str(error)
        return ""

    for _ in range(3):
        with ThreadPoolExecutor(len(leases)) as pool:
            told = list(pool.map(take, leases))
        (winner,) = (lease for lease, text in zip(leases, told, strict=True) if not text)
        refused = [text for text in told if text]
        assert len(refused) == len(leases) - 1
        assert all(f"refreshed by {winner.owner}" in text for text in refused)
        assert all("2026-03-01 12:" in text for text in refused)
        winner.check()
        clock.pass_time(minutes=2)


def test_no_two_holders_are_called_the_same() -> None:
    assert owner_of_this_process() != owner_of_this_process()


def test_a_lease_that_is_given_back_can_be_taken_at_once(
    any_store: Store, clock: FastClock
) -> None:
    lost = threading.Event()
    held = Lease(any_store, TERM, clock).held(lost)
    with held, pytest.raises(StoppedError, match="run again when that is over"):
        Lease(any_store, TERM, clock).take()
    Lease(any_store, TERM, clock).take()
    assert not lost.is_set()


def test_a_dead_holder_is_followed_when_its_term_is_over(store: Store, clock: FastClock) -> None:
    Lease(store, TERM, clock).take()
    clock.pass_time(seconds=59)
    with pytest.raises(StoppedError, match="12:01:00"):
        Lease(store, TERM, clock).take()
    clock.pass_time(seconds=1)
    Lease(store, TERM, clock).take()


def test_a_holder_renews_from_a_thread(store: Store, clock: FastClock) -> None:
    lost = threading.Event()
    with Lease(store, TERM, clock).held(lost):
        for _ in range(6):
            before = Lease(store, TERM, clock).latest()
            assert before
            clock.pass_time(seconds=21)
            _wait_for_another(store, clock, before.until)
        with pytest.raises(StoppedError):
            Lease(store, TERM, clock).take()
    assert not lost.is_set()


def _wait_for_another(store: Store, clock: FastClock, until: object) -> None:
    for _ in range(2000):
        now = Lease(store, TERM, clock).latest()
        if now and now.until != until:
            return
        time.sleep(0.005)
    pytest.fail("the lease was not renewed")


def test_a_suspended_holder_notices_that_it_was_followed(
    any_store: Store, clock: FastClock
) -> None:
    suspended, other = (Lease(any_store, TERM, clock) for _ in range(2))
    suspended.take()
    clock.pass_time(minutes=5)
    other.take()
    with pytest.raises(StoppedError, match=f"refreshed by {other.owner}"):
        suspended.check()
    clock.pass_time(minutes=5)
    with pytest.raises(StoppedError, match="holds no lease"):
        suspended.check()
    suspended.give_back()
    other.check()


def test_a_suspended_holder_that_nobody_followed_goes_on(store: Store, clock: FastClock) -> None:
    suspended = Lease(store, TERM, clock)
    suspended.take()
    clock.pass_time(minutes=5)
    suspended.check()
    with pytest.raises(StoppedError):
        Lease(store, TERM, clock).take()


def test_losing_the_lease_is_told_to_what_runs_under_it(store: Store, clock: FastClock) -> None:
    lost = threading.Event()
    with Lease(store, TERM, clock).held(lost):
        taken = Lease(store, timedelta(hours=1), FastClock(clock.now() + timedelta(minutes=2)))
        taken.take()
        clock.pass_time(seconds=30)
        assert lost.wait(10)


def test_a_number_that_was_deleted_long_ago_is_no_lease(store: Store, clock: FastClock) -> None:
    late = Lease(store, TERM, clock)
    first = late.latest()
    for _ in range(25):
        Lease(store, TERM, clock).take()
        clock.pass_time(minutes=2)
    newest = Lease(store, TERM, clock)
    newest.take()
    assert 10 <= len(list(store.list(FOLDER))) <= 12
    with pytest.raises(StoppedError, match=newest.owner):
        late._next(first)
    newest.check()
