"""One refresh of a store at a time: a lease that its holder renews, and that runs out.

::

    refreshes/lease/000001.json           who took it, and until when; the highest number counts
    refreshes/lease/000001-renewed.json   until when now; written by the holder alone

The next number is taken by ``put_new``, which every supported store can do, so of several that take
it at once one wins. A holder that is late renews in the same way, so that it cannot come back to a
lease that somebody else has taken. Nothing that must not happen twice hangs on clocks: a promotion
is an entry of a chain, tables notice a second writer. The lease saves the work of losing there.
"""

import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import MissingError, ReadloopError, StoppedError, StorageError
from pipeline.refreshing.clock import Clock
from pipeline.storage.store import Store

FOLDER = "refreshes/lease"
_RENEWALS = 3  # in one term
_KEPT = 10
_RENEWED = "-renewed"


class LeaseHeldError(StoppedError):
    """Somebody else holds the lease, or has taken it meanwhile."""


def owner_of_this_process() -> str:
    """Return host, process number and something random: no two holders are called the same."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


@dataclass(frozen=True, slots=True)
class Term:
    """One holder's time with a lease, which ends at ``until`` unless it is renewed before."""

    number: int
    owner: str
    taken_at: datetime
    until: datetime


class Lease:
    """A lease on a store, as one holder sees it.

    Args:
        store: whose refreshes it is about.
        term: how long it holds without being renewed.
        clock: the time. Those of several machines may differ by less than two thirds of a term.
        owner: who takes it.

    Every method raises :class:`pipeline.errors.StorageError` when the store fails.
    """

    def __init__(self, store: Store, term: timedelta, clock: Clock, owner: str = "") -> None:
        self._store = store
        self._term = term
        self._clock = clock
        self.owner = owner or owner_of_this_process()
        self._held: Term | None = None
        self._lock = threading.Lock()

    @contextmanager
    def held(self, lost: threading.Event) -> Iterator[None]:
        """Hold the lease while the block runs, and renew it from a thread.

        Args:
            lost: is set when somebody else has taken it.

        Raises:
            StoppedError: somebody else holds it; says who, and until when.
        """
        self.take()
        done = threading.Event()
        renewing = threading.Thread(target=self._keep, args=(done, lost), daemon=True)
        renewing.start()
        try:
            yield
        finally:
            done.set()
            renewing.join()
            self.give_back()

    def take(self) -> None:
        """Take the lease.

        Raises:
            StoppedError: somebody else holds it; says who, and until when.
        """
        with self._lock:
            last = self.latest()
            if last and last.until > self._clock.now():
                raise self._taken_by(last)
            self._held = self._next(last)

    def check(self) -> None:
        """Make sure, before something that others will see, that the lease is still held.

        Raises:
            StoppedError: it ran out, and somebody else has taken it.
        """
        with self._lock:
            self._renew()

    def give_back(self) -> None:
        """End the own term now, unless it is lost already."""
        with self._lock:
            held, self._held = self._held, None
            if held:
                self._write(replace(held, until=self._clock.now()))

    def latest(self) -> Term | None:
        """Return the last term there is, None before the first."""
        numbers = self._numbers()
        return self._read(numbers[-1]) if numbers else None

    def _keep(self, done: threading.Event, lost: threading.Event) -> None:
        """Renew again and again; a store that fails is tried again at the next time."""
        while not self._clock.wait(done, self._term.total_seconds() / _RENEWALS):
            try:
                self.check()
            except StoppedError:
                lost.set()
                return
            except StorageError:
                continue

    def _renew(self) -> None:
        if self._held is None:
            raise StoppedError(f"{self._store.uri}: this refresh holds no lease; run again")
        last, now = self.latest(), self._clock.now()
        if last is None or last.owner != self._held.owner:
            self._held = None
            raise self._taken_by(last) if last else self._gone()
        if last.until <= now:
            self._held = self._next(last)
            return
        self._held = replace(last, until=now + self._term)
        self._write(self._held)

    def _next(self, last: Term | None) -> Term:
        """Begin the term after ``last``."""
        now = self._clock.now()
        number = last.number + 1 if last else 1
        term = Term(number, self.owner, now, now + self._term)
        made = self._store.put_new(f"{FOLDER}/{number:06d}.json", _dump(term))
        # A number that was deleted long ago can be made again, but is not the highest then.
        if not made or self._numbers()[-1] != number:
            self._held = None
            winner = self.latest()
            raise self._taken_by(winner) if winner else self._gone()
        self._delete_old(number)
        return term

    def _delete_old(self, number: int) -> None:
        old = [found for found in self._numbers() if found <= number - _KEPT]
        paths = [f"{FOLDER}/{found:06d}" for found in old]
        self._store.delete([path + end for path in paths for end in (".json", f"{_RENEWED}.json")])

    def _write(self, term: Term) -> None:
        self._store.put(f"{FOLDER}/{term.number:06d}{_RENEWED}.json", _dump(term))

    def _read(self, number: int) -> Term:
        path = f"{FOLDER}/{number:06d}{_RENEWED}.json"
        try:
            data = self._store.get(path)
        except MissingError:
            path = f"{FOLDER}/{number:06d}.json"
            data = self._store.get(path)
        try:
            return TypeAdapter(Term).validate_json(data)
        except ValidationError as error:
            uri = self._store.address.child(path).uri
            raise StorageError(f"{uri}: is no lease of this version; delete it: {error}") from error

    def _numbers(self) -> list[int]:
        names = (info.uri.rpartition("/")[2] for info in self._store.list(FOLDER))
        stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
        return sorted(int(stem) for stem in stems if stem.isdigit())

    def _taken_by(self, term: Term) -> ReadloopError:
        until = term.until.isoformat(sep=" ", timespec="seconds")
        return LeaseHeldError(
            f"{self._store.uri}: is refreshed by {term.owner} (host, process), whose lease holds "
            f"until {until} unless it is renewed; run again when that is over"
        )

    def _gone(self) -> ReadloopError:
        return StoppedError(f"{self._store.uri}: the lease was deleted ({FOLDER}); run again")


def _dump(term: Term) -> bytes:
    return TypeAdapter(Term).dump_json(term)
