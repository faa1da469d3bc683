"""What people said, append-only: the Delta table ``corrections`` of a store.

A correction that is changed, skipped or deleted later is another row with the same id; the latest
one counts. Old versions of the table stay readable, which is what a training set is frozen by.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime

import pyarrow as pa

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


class CorrectionTable:
    """The corrections of one store. One process appends at a time.

    Every method raises :class:`pipeline.errors.StorageError` when the store fails.
    """

    def __init__(self, store: Store) -> None:
        self._table = FencedTable(store, "corrections", CORRECTIONS_SCHEMA.append(COMMITTED_AT))

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
        known = self._revisions()
        newest: dict[str, Correction] = {}
        for row in rows:
            before = newest[row.id].updated_at if row.id in newest else known.get(row.id)
            if before is None or row.updated_at > before:
                newest[row.id] = row
        table = corrections_to_arrow(list(newest.values()))
        now = pa.array([datetime.now(UTC)] * table.num_rows, type=COMMITTED_AT.type)
        self._table.append(table.append_column(COMMITTED_AT, now))
        return int(table.num_rows)

    def latest(self, version: int | None = None) -> Iterator[Correction]:
        """Yield the latest revision of each correction, deleted ones too, in a stable order.

        Args:
            version: of the table; None for the current one.
        """
        newest = self._revisions(version)
        snapshot = self._table.snapshot(version)
        for _, table in snapshot.scan(CORRECTIONS_SCHEMA.names):
            pairs = zip(table["id"].to_pylist(), table["updated_at"].to_pylist(), strict=True)
            chosen = [place for place, (row, at) in enumerate(pairs) if newest[row] == at]
            yield from corrections_from_arrow(table.take(pa.array(chosen, type=pa.int64())))

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

    def _revisions(self, version: int | None = None) -> dict[str, datetime]:
        newest: dict[str, datetime] = {}
        for _, table in self._table.snapshot(version).scan(["id", "updated_at"]):
            pairs = zip(table["id"].to_pylist(), table["updated_at"].to_pylist(), strict=True)
            for row, at in pairs:
                if row not in newest or newest[row] < at:
                    newest[row] = at
        return newest
