"""How far each refresh of a store is: a small file a step, written when the step is done.

::

    refreshes/000001/begun.json       why it learns, what it collected, from what it started
    refreshes/000001/learned.json     the gate's decision
    refreshes/000001/chosen.parquet   the images to label anew, worst first
    refreshes/000001/relabeled.json   how they were labeled
    refreshes/000001/published.json   what became of them in Label Studio
    refreshes/000001/done.json        all of it; the refresh is over once this exists
    refreshes/settled.json            up to when --watch has dealt with the times of its schedule

Started again, a refresh goes on with the first step whose file is missing.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from pipeline.errors import MissingError, StoppedError, StorageError
from pipeline.storage.parquet import read_parquet, to_parquet
from pipeline.storage.store import Store

FOLDER = "refreshes"
_SETTLED = f"{FOLDER}/settled.json"
CHOSEN = pa.schema([("image_id", pa.string())])
Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Begun:
    """Where a refresh started.

    ``corrections`` is the version of their table that made it begin. ``pointer`` is the last entry
    of the registry's chain, and ``snapshot`` the last training set, before it (0: none).
    """

    number: int
    owner: str
    began_at: datetime
    why: str
    new: int
    corrections: int
    pointer: int
    snapshot: int
    collected: dict[str, Any] | None


class Steps:
    """The steps of one refresh. Every method raises StorageError when the store fails."""

    def __init__(self, store: Store, number: int) -> None:
        self._store = store
        self._folder = f"{FOLDER}/{number:06d}"

    def once(self, name: str, kind: type[Record], work: Callable[[], Record]) -> Record:
        """Return what a step came to; ``work`` does it unless it was done before."""
        found = self.read(name, kind)
        if found is not None:
            return found
        result = work()
        self.write(name, kind, result)
        return result

    def read(self, name: str, kind: type[Record]) -> Record | None:
        """Return what a step came to, None if it is not done."""
        path = f"{self._folder}/{name}.json"
        try:
            return TypeAdapter(kind).validate_json(self._store.get(path))
        except MissingError:
            return None
        except ValidationError as error:
            uri = self._store.address.child(path).uri
            raise StorageError(f"{uri}: is not of this version: {error}") from error

    def write(self, name: str, kind: type[Record], result: Record) -> None:
        """Write down what a step came to.

        Raises:
            StoppedError: somebody else has done it.
        """
        path = f"{self._folder}/{name}.json"
        plain = TypeAdapter(kind).dump_python(result, mode="json")
        # Not dump_json, which writes the loss of a training that diverged (NaN) as null.
        if not self._store.put_new(path, json.dumps(plain, indent=2).encode()):
            raise StoppedError(
                f"{self._store.address.child(path).uri}: another refresh has written it; run again"
            )

    def chosen(self) -> list[str] | None:
        """Return the images to label anew, None if they are not chosen yet."""
        try:
            chosen = read_parquet(self._store, f"{self._folder}/chosen.parquet")
        except MissingError:
            return None
        images: list[str] = chosen["image_id"].to_pylist()
        return images

    def write_chosen(self, images: list[str]) -> None:
        """Write down the images to label anew."""
        chosen = pa.table({"image_id": images}, CHOSEN)
        self._store.put_new(f"{self._folder}/chosen.parquet", to_parquet(chosen))


class Shelf:
    """The refreshes of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def last(self) -> Begun | None:
        """Return the latest refresh that has begun, None before the first."""
        numbers = self._numbers("begun")
        return self._begun(numbers[-1]) if numbers else None

    def unfinished(self) -> Begun | None:
        """Return the refresh to go on with, None if all are over."""
        open_ = set(self._numbers("begun")) - set(self._numbers("done"))
        return self._begun(max(open_)) if open_ else None

    def steps(self, begun: Begun) -> Steps:
        """Return the steps of a refresh."""
        return Steps(self._store, begun.number)

    def begin(self, begun: Begun) -> None:
        """Write down that a refresh begins.

        Raises:
            StoppedError: somebody else has begun one with that number.
        """
        Steps(self._store, begun.number).write("begun", Begun, begun)

    def settled(self) -> datetime | None:
        """Return up to when the times of the schedule are dealt with, None if nothing says so."""
        try:
            data = self._store.get(_SETTLED)
        except MissingError:
            return None
        try:
            return TypeAdapter(datetime).validate_json(data)
        except ValidationError as error:
            uri = self._store.address.child(_SETTLED).uri
            raise StorageError(f"{uri}: is no time; delete it: {error}") from error

    def settle(self, until: datetime) -> None:
        """Write down up to when the times of the schedule are dealt with."""
        self._store.put(_SETTLED, TypeAdapter(datetime).dump_json(until))

    def _begun(self, number: int) -> Begun:
        found = Steps(self._store, number).read("begun", Begun)
        assert found, "it was listed"
        return found

    def _numbers(self, name: str) -> list[int]:
        paths = (info.uri.split("/") for info in self._store.list(FOLDER))
        found = (parts[-2] for parts in paths if parts[-1] == f"{name}.json")
        return sorted(int(folder) for folder in found if folder.isdigit())
