"""Which predictions each task shows now, as publishing wrote it down."""

from collections.abc import Iterable
from datetime import datetime
from functools import cached_property

from labelstudio.publishing.ledger import TASKS_SCHEMA
from pipeline.storage.delta import FencedTable
from pipeline.storage.index import RowIndex
from pipeline.storage.store import Store


class PublishedTasks:
    """The tasks of a store by their keys. Memory holds 12 bytes a row. Raises StorageError."""

    def __init__(self, store: Store) -> None:
        self._table = FencedTable(store, "tasks", TASKS_SCHEMA)

    @property
    def version(self) -> int:
        """Number of the latest commit that this object knows."""
        return self._table.version

    @cached_property
    def _index(self) -> RowIndex:
        return RowIndex(self._table.snapshot(), ["key"])

    def predictions(self, keys: Iterable[str]) -> dict[str, list[str]]:
        """Return the keys of the predictions that each of these tasks was last meant to show.

        Tasks that were never published from this store are left out.
        """
        latest: dict[str, tuple[datetime, list[str]]] = {}
        for table in self._index.read(self._index.where("key", keys)):
            for row in table.select(["key", "predictions", "committed_at"]).to_pylist():
                if row["key"] not in latest or latest[row["key"]][0] <= row["committed_at"]:
                    latest[row["key"]] = row["committed_at"], row["predictions"]
        return {key: predictions for key, (_, predictions) in latest.items()}
