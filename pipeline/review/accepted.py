"""Which predictions no person needs to see: the append-only Delta table ``accepted`` of a store.

A row says that a prediction was accepted, or no longer is; the latest row of a key counts. A
correction outranks it: people may have seen the image before or after.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import pyarrow as pa

from pipeline.storage.delta import FencedTable
from pipeline.storage.store import Store

NAME = "accepted"
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("image_id", pa.string()),
        ("label", pa.string()),
        ("model_version", pa.string()),
        ("accepted", pa.bool_()),
        ("expected_iou", pa.float64()),
        ("calibration", pa.int64()),
        ("committed_at", pa.timestamp("us", tz="UTC")),
    ]
)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a prediction is accepted, by the rule of which calibration."""

    key: str
    image_id: str
    label: str
    model_version: str
    accepted: bool
    expected_iou: float
    calibration: int


class AcceptedTable:
    """The decisions of one store. One process appends at a time.

    Every method raises :class:`pipeline.errors.StorageError` when the store fails.
    """

    def __init__(self, store: Store) -> None:
        self._table = FencedTable(store, NAME, SCHEMA)
        self._accepted = self.keys()
        self._changed: list[Decision] = []

    def keys(self) -> set[str]:
        """Return the keys of the predictions that are accepted now."""
        latest: dict[str, tuple[datetime, bool]] = {}
        for _, rows in self._table.snapshot().scan(["key", "accepted", "committed_at"]):
            for row in rows.to_pylist():
                if row["key"] not in latest or latest[row["key"]][0] < row["committed_at"]:
                    latest[row["key"]] = row["committed_at"], row["accepted"]
        return {key for key, (_, accepted) in latest.items() if accepted}

    def note(self, decisions: Sequence[Decision]) -> None:
        """Remember the decisions that change something, for :meth:`commit`."""
        self._changed += [row for row in decisions if row.accepted != (row.key in self._accepted)]

    def commit(self) -> int:
        """Append what was noted, in one commit; return how many rows that were.

        Raises:
            StoppedError: another process has appended since this table was opened.
        """
        changed, self._changed = self._changed, []
        self._table.append(_to_arrow(changed))
        self._accepted = self.keys()
        return len(changed)


def has_accepted(store: Store) -> bool:
    """Return whether a store has ever had a table of accepted predictions."""
    return next(store.list(f"{NAME}/_delta_log"), None) is not None


def _to_arrow(rows: Sequence[Decision]) -> pa.Table:
    now = datetime.now(UTC)
    return pa.Table.from_pylist([asdict(row) | {"committed_at": now} for row in rows], SCHEMA)
