"""The tables of a store: predictions and failures, written by one committer.

Workers write shards; the committer appends their rows to the tables and deletes them. Killed at
any point, the next run finds what is left: a shard whose rows are committed is only deleted,
any other is committed first. No key gets two predictions.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import MissingError
from pipeline.records import Failure, Prediction
from pipeline.storage import shards as shard_files
from pipeline.storage.delta import FencedTable, overtaken
from pipeline.storage.reading import latest_keys, read_by_image
from pipeline.storage.schemas import (
    COMMITTED_AT,
    FAILURES_SCHEMA,
    PREDICTIONS_SCHEMA,
    failures_from_arrow,
)
from pipeline.storage.shards import Shard, list_shards, read_shard
from pipeline.storage.store import Store
from pipeline.storage.versions import PredictionVersions

_ORPHANS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many of the asked keys are predicted (present or absent), failed, or neither."""

    present: int
    absent: int
    failed: int
    missing: int


class PredictionTables:
    """Predictions and failures of one store. One thread of one process commits at a time.

    Every method raises :class:`pipeline.errors.StorageError` when the store fails.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._predictions = FencedTable(
            store, "predictions", PREDICTIONS_SCHEMA.append(COMMITTED_AT)
        )
        self._failures = FencedTable(store, "failures", FAILURES_SCHEMA.append(COMMITTED_AT))
        self._failed_now: set[str] = set()

    @property
    def version(self) -> int:
        """Number of the latest commit to the predictions that this process knows."""
        return self._predictions.version

    def is_done(self, key: str) -> bool:
        """Return whether a unit of work has a prediction or a failure that will not pass."""
        return key in self._predicted or key in self._settled

    def adopt_orphans(self) -> int:
        """Commit what an earlier, killed run left as shards; return the rows added.

        Call it before the work is planned. Failures that may pass are dropped, because the
        run tries them again.

        Raises:
            StoppedError: another run commits to this store, or has taken over the shards.
        """
        files = list(list_shards(self._store))
        return sum(
            self._commit(files[start : start + _ORPHANS_AT_ONCE], orphans=True)
            for start in range(0, len(files), _ORPHANS_AT_ONCE)
        )

    def commit(self, shards: Sequence[Shard]) -> int:
        """Append the shards' rows whose keys are new, then delete the shards; return the rows.

        Raises:
            StoppedError: another run commits to this store, or has taken over the shards.
        """
        return self._commit([file for shard in shards for file in shard.files], orphans=False)

    def read_by_image(self, keys: Iterable[str]) -> Iterator[list[Prediction]]:
        """Yield the predictions with those keys, all of one image together.

        Images come in the order of their first key, their predictions in the order of the
        keys; keys without a prediction are left out. Memory holds the keys and a few hundred
        images.
        """
        return read_by_image(self._predictions.snapshot(), _distinct(keys))

    def latest(self, images: Iterable[str]) -> Iterator[list[Prediction]]:
        """Yield the latest prediction of each label and query of images, those of one together.

        Images come in the order given; those without a prediction are left out. Memory holds
        the names of both and a few hundred images.
        """
        snapshot = self._predictions.snapshot()
        return read_by_image(snapshot, latest_keys(snapshot, _distinct(images)))

    def sizes(self, images: Iterable[str]) -> dict[tuple[str, str], tuple[int, int]]:
        """Return height and width in pixels of images that have predictions, by id and etag."""
        wanted = pa.array(images, type=pa.string())
        found: dict[tuple[str, str], tuple[int, int]] = {}
        columns = ["image_id", "etag", "height", "width"]
        for _, table in self._predictions.snapshot().scan(columns):
            rows = table.filter(pc.is_in(table["image_id"], value_set=wanted))
            for image, etag, *size in zip(*(rows[c].to_pylist() for c in columns), strict=True):
                found[image, etag] = (size[0], size[1])
        return found

    def versions(self) -> PredictionVersions:
        """Return all predictions of each image, as committed now."""
        return PredictionVersions(self._predictions.snapshot())

    def failures(self, keys: Iterable[str]) -> Iterator[Failure]:
        """Yield the latest failure of each of those keys that has no prediction."""
        wanted = _distinct(keys)
        latest: dict[str, tuple[datetime, Failure]] = {}
        snapshot = self._failures.snapshot()
        for _, table in snapshot.scan(snapshot.schema.names):
            rows = table.filter(pc.is_in(table["key"], value_set=wanted))
            times = rows["committed_at"].to_pylist()
            for time, failure in zip(times, failures_from_arrow(rows), strict=True):
                if failure.key in self._predicted:
                    continue
                if failure.key not in latest or latest[failure.key][0] < time:
                    latest[failure.key] = time, failure
        yield from (failure for _, failure in latest.values())

    def count(self, keys: Iterable[str]) -> Outcome:
        """Return how those keys stand."""
        wanted = _distinct(keys)
        present = absent = 0
        for _, table in self._predictions.snapshot().scan(["key", "present"]):
            chosen = table.filter(pc.is_in(table["key"], value_set=wanted))
            positive = pc.sum(chosen["present"]).as_py() or 0
            present += positive
            absent += chosen.num_rows - positive
        failed = sum(1 for _ in self.failures(wanted.to_pylist()))
        return Outcome(present, absent, failed, len(wanted) - present - absent - failed)

    def _commit(self, files: Sequence[str], *, orphans: bool) -> int:
        predictions = [file for file in files if file.startswith(shard_files.PREDICTIONS)]
        failures = [file for file in files if file.startswith(shard_files.FAILURES)]
        rows = self._append(
            self._predictions, predictions, PREDICTIONS_SCHEMA, lambda key: key in self._predicted
        )
        self._predicted.update(rows["key"].to_pylist())
        failed = self._append(
            self._failures,
            failures,
            FAILURES_SCHEMA,
            lambda key: self.is_done(key) or key in self._failed_now,
            skip=pc.field("retryable") if orphans else None,
        )
        self._failed_now.update(failed["key"].to_pylist())
        self._settled.update(failed.filter(~pc.field("retryable"))["key"].to_pylist())
        self._store.delete(files)
        return int(rows.num_rows + failed.num_rows)

    def _append(
        self,
        table: FencedTable,
        files: Sequence[str],
        schema: pa.Schema,
        known: Callable[[str], bool],
        skip: pc.Expression | None = None,
    ) -> pa.Table:
        parts = [self._read(file) for file in files]
        rows = pa.concat_tables(parts) if parts else schema.empty_table()
        if skip is not None:
            rows = rows.filter(~skip)
        rows = _first_of_each(rows, known)
        now = pa.array([datetime.now(UTC)] * rows.num_rows, type=COMMITTED_AT.type)
        table.append(rows.append_column(COMMITTED_AT, now))
        return rows

    def _read(self, file: str) -> pa.Table:
        """Return a shard's file, which only a committer deletes."""
        try:
            return read_shard(self._store, file)
        except MissingError as error:
            raise overtaken(self._store) from error

    def model_versions(self) -> set[str]:
        """Return the versions that made any of the predictions."""
        versions: set[str] = set()
        for _, table in self._predictions.snapshot().scan(["model_version"]):
            versions.update(table["model_version"].unique().to_pylist())
        return versions

    @cached_property
    def _predicted(self) -> set[str]:
        keys: set[str] = set()
        for _, table in self._predictions.snapshot().scan(["key"]):
            keys.update(table["key"].to_pylist())
        return keys

    @cached_property
    def _settled(self) -> set[str]:
        keys: set[str] = set()
        for _, table in self._failures.snapshot().scan(["key", "retryable"]):
            keys.update(table.filter(~pc.field("retryable"))["key"].to_pylist())
        return keys


def _distinct(keys: Iterable[str]) -> pa.Array:
    return pc.unique(pa.array(keys, type=pa.string()))


def _first_of_each(rows: pa.Table, known: Callable[[str], bool]) -> pa.Table:
    """Return the first row of each key that is not known yet."""
    seen: set[str] = set()
    chosen = []
    for index, key in enumerate(rows["key"].to_pylist()):
        if key not in seen and not known(key):
            seen.add(key)
            chosen.append(index)
    return rows.take(pa.array(chosen, type=pa.int64()))
