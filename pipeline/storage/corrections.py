"""What people said, append-only: the Delta table ``corrections`` of a store.

A correction that is changed, skipped or deleted later is another row with the same id; the latest
one counts. Old versions of the table stay readable, which is what a training set is frozen by.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.records import Correction
from pipeline.storage.delta import FencedTable
from pipeline.storage.reading import latest_by_image
from pipeline.storage.schemas import (
    COMMITTED_AT,
    CORRECTIONS_SCHEMA,
    corrections_from_arrow,
    corrections_to_arrow,
)
from pipeline.storage.store import Store

TEACHES_NOTHING = ("skipped", "deleted")
"""Verdicts of corrections that no training learns from."""

_UNIT = ["image_id", "label", "query"]


@dataclass(frozen=True, slots=True)
class Revision:
    """The latest revision of one correction, without what it says."""

    id: str
    task: int
    annotation: int
    updated_at: datetime
    deleted: bool


class CorrectionTable:
    """The corrections of one store. One process appends at a time.

    Every method raises :class:`pipeline.errors.StorageError` when the store fails.
    """

    def __init__(self, store: Store) -> None:
        self._table = FencedTable(store, "corrections", CORRECTIONS_SCHEMA.append(COMMITTED_AT))
        self._known: dict[str, datetime] | None = None

    @property
    def version(self) -> int:
        """Number of the latest commit; :meth:`latest` of it stays the same for ever."""
        return self._table.version

    def append(self, rows: Sequence[Correction]) -> int:
        """Append the revisions that are newer than what is known of their ids, in one commit.

        Returns:
            How many rows that were.

        Raises:
            StoppedError: another process has appended since this table was opened.
        """
        if self._known is None:
            self._known = self._newest()
        newest: dict[str, Correction] = {}
        for row in rows:
            before = newest[row.id].updated_at if row.id in newest else self._known.get(row.id)
            if before is None or row.updated_at > before:
                newest[row.id] = row
        table = corrections_to_arrow(list(newest.values()))
        now = pa.array([datetime.now(UTC)] * table.num_rows, type=COMMITTED_AT.type)
        self._table.append(table.append_column(COMMITTED_AT, now))
        self._known.update((row.id, row.updated_at) for row in newest.values())
        return int(table.num_rows)

    def latest(self, version: int | None = None) -> Iterator[Correction]:
        """Yield the latest revision of each correction, deleted ones too, in a stable order.

        Args:
            version: of the table; None for the current one.
        """
        return self._rows(self._newest(version), version)

    def model_versions(self) -> set[str]:
        """Return the versions whose predictions anybody corrected."""
        versions: set[str] = set()
        for _, table in self._table.snapshot().scan(["model_version"]):
            versions.update(table["model_version"].unique().to_pylist())
        return versions

    def by_image(
        self, images: Collection[str], version: int | None = None
    ) -> Iterator[list[Correction]]:
        """Yield what :meth:`latest` does of some images, those of an image together.

        Args:
            images: ids of the images, each once; they come in this order.
            version: of the table; None for the current one.
        """
        return latest_by_image(self._table.snapshot(version), images)

    def find(self, ids: Iterable[str]) -> Iterator[Correction]:
        """Yield the latest revision of the corrections with those ids."""
        newest = self._newest()
        return self._rows({row: newest[row] for row in ids if row in newest})

    def revisions(self, prefix: str = "") -> Iterator[Revision]:
        """Yield what is known of the corrections whose ids begin so, one at a time."""
        newest = self._newest()
        columns = ["id", "task", "annotation", "updated_at", "verdict"]
        for _, table in self._table.snapshot().scan(columns):
            for row in table.filter(pc.starts_with(table["id"], prefix)).to_pylist():
                deleted = row.pop("verdict") == "deleted"
                if newest[row["id"]] == row["updated_at"]:
                    yield Revision(**row, deleted=deleted)

    def news(self, version: int | None) -> int:
        """Return how many corrections that can teach are new, or revised, since a version.

        Args:
            version: of the table; None counts all.

        Raises:
            StorageError: the store failed, or does not keep that version any more.
        """
        before = {} if version is None else self._newest(version)
        fresh: set[str] = set()
        newest = self._newest()
        for _, table in self._table.snapshot().scan(["id", "updated_at", "verdict"]):
            for row in table.to_pylist():
                latest = newest[row["id"]] == row["updated_at"] != before.get(row["id"])
                if latest and row["verdict"] not in TEACHES_NOTHING:
                    fresh.add(row["id"])
        return len(fresh)

    def units(self) -> set[tuple[str, str, str]]:
        """Return image id, label and query of what has a correction that was not deleted."""
        newest = self._newest()
        found: set[tuple[str, str, str]] = set()
        for _, table in self._table.snapshot().scan(["id", "updated_at", "verdict", *_UNIT]):
            for row in table.to_pylist():
                if newest[row["id"]] == row["updated_at"] and row["verdict"] != "deleted":
                    found.add((row["image_id"], row["label"], row["query"]))
        return found

    def shared(self) -> Iterator[Correction]:
        """Yield the latest revisions about queries that several annotators worked on."""
        newest = self._newest()
        columns = ["id", "updated_at", *_UNIT, "annotator"]
        parts = [
            table.take(_places(table, newest)) for _, table in self._table.snapshot().scan(columns)
        ]
        if not parts:
            return iter(())
        rows = pa.concat_tables(parts)
        people = rows.group_by(_UNIT).aggregate([("annotator", "count_distinct")])
        several = people.filter(pc.field("annotator_count_distinct") > 1).select(_UNIT)
        chosen = rows.join(several, keys=_UNIT, join_type="inner")["id"].to_pylist()
        return self._rows({row: newest[row] for row in chosen})

    def _rows(
        self, newest: Mapping[str, datetime], version: int | None = None
    ) -> Iterator[Correction]:
        """Yield those revisions; only the row groups that hold one are read."""
        snapshot = self._table.snapshot(version)
        for group, table in snapshot.scan(["id", "updated_at"]):
            places = _places(table, newest)
            if len(places):
                yield from corrections_from_arrow(snapshot.read(group).take(places))

    def _newest(self, version: int | None = None) -> dict[str, datetime]:
        newest: dict[str, datetime] = {}
        for _, table in self._table.snapshot(version).scan(["id", "updated_at"]):
            pairs = zip(table["id"].to_pylist(), table["updated_at"].to_pylist(), strict=True)
            for row, at in pairs:
                if row not in newest or newest[row] < at:
                    newest[row] = at
        return newest


def _places(table: pa.Table, newest: Mapping[str, datetime]) -> pa.Array:
    """Return the places of the rows that are the latest revision of an id in ``newest``."""
    pairs = zip(table["id"].to_pylist(), table["updated_at"].to_pylist(), strict=True)
    chosen = [place for place, (row, at) in enumerate(pairs) if newest.get(row) == at]
    return pa.array(chosen, type=pa.int64())
