"""One prediction at a time, by its key: for a server that is asked about any of them.

Keys and their places are kept in memory (72 bytes a row); rows are read when they are asked for.
A key that is not known makes the table be looked at again, at most every few seconds.
"""

import threading
import time
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.records import Prediction
from pipeline.storage.delta import FencedTable
from pipeline.storage.schemas import COMMITTED_AT, PREDICTIONS_SCHEMA, predictions_from_arrow
from pipeline.storage.snapshot import RowGroup, Snapshot
from pipeline.storage.store import Store

LONGEST_KEY = 64
LOOK_AGAIN_SECONDS = 5.0
_ROWS_KEPT = 256


class PredictionLookup:
    """Predictions of a store by key. Several threads may ask.

    Args:
        store: where the tables are.
        clock: seconds that only grow.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._looked: float | None = None
        self._keys: NDArray[np.bytes_] = np.empty(0, f"S{LONGEST_KEY}")
        self._places: NDArray[np.int64] = np.empty(0, np.int64)
        self._groups: list[RowGroup] = []
        self._snapshot: Snapshot | None = None
        self._row = lru_cache(maxsize=_ROWS_KEPT)(self._read)

    def get(self, key: str) -> Prediction | None:
        """Return the prediction with that key, None if there is none.

        Raises:
            StorageError: the store failed.
        """
        if not 0 < len(key) <= LONGEST_KEY or not key.isascii():
            return None
        with self._lock:
            if self._place(key) is None:
                self._look_again()
            return None if self._place(key) is None else self._row(key)

    def _place(self, key: str) -> int | None:
        index = int(np.searchsorted(self._keys, key.encode()))
        if index < len(self._keys) and self._keys[index] == key.encode():
            return int(self._places[index])
        return None

    def _look_again(self) -> None:
        """Learn which keys there are now; if the store fails, what was known stays as it was."""
        now = self._clock()
        if self._looked is not None and now - self._looked < LOOK_AGAIN_SECONDS:
            return
        self._looked = now
        schema = PREDICTIONS_SCHEMA.append(COMMITTED_AT)
        snapshot = FencedTable(self._store, "predictions", schema).snapshot()
        groups: list[RowGroup] = []
        keys, places = [self._keys[:0]], [self._places[:0]]
        for group, table in snapshot.scan(["key"]):
            keys.append(np.asarray(table["key"].to_pylist(), self._keys.dtype))
            places.append(np.full(table.num_rows, len(groups), np.int64))
            groups.append(group)
        together = np.concatenate(keys)
        order = np.argsort(together)
        self._keys, self._places = together[order], np.concatenate(places)[order]
        self._groups, self._snapshot = groups, snapshot
        self._row.cache_clear()

    def _read(self, key: str) -> Prediction:
        place = self._place(key)
        assert place is not None
        assert self._snapshot is not None
        table = self._snapshot.read(self._groups[place])
        (row,) = predictions_from_arrow(table.filter(pc.field("key") == key))
        return row
