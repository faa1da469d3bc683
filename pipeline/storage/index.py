"""Finding rows of a table by the values of some columns, in bounded memory.

A light pass over the table keeps 8 bytes a row and column (hashes) and the row group; rows are then
read only from the row groups that hold them.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.storage.snapshot import RowGroup, Snapshot

_GROUPS_KEPT = 4


class RowIndex:
    """Where the rows of one version of a table are. Methods raise StorageError."""

    def __init__(self, snapshot: Snapshot, columns: Sequence[str]) -> None:
        self._snapshot = snapshot
        self._groups: list[RowGroup] = []
        parts: dict[str, list[NDArray[np.int64]]] = {column: [_hashes([])] for column in columns}
        numbers = [np.empty(0, np.int32)]
        for group, table in snapshot.scan(columns):
            for column in columns:
                parts[column].append(_hashes(table[column].to_pylist()))
            numbers.append(np.full(table.num_rows, len(self._groups), dtype=np.int32))
            self._groups.append(group)
        self._hashes = {column: np.concatenate(found) for column, found in parts.items()}
        self._numbers = np.concatenate(numbers)
        self._load = lru_cache(maxsize=_GROUPS_KEPT)(self._read)

    def where(self, column: str, values: Iterable[str]) -> NDArray[np.bool_]:
        """Return, for every row, whether its value is (by its hash) one of those."""
        found: NDArray[np.bool_] = np.isin(self._hashes[column], _hashes(list(values)))
        return found

    def where_like(self, column: str, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return, for every row, whether its value is that of one of the chosen rows."""
        hashes = self._hashes[column]
        found: NDArray[np.bool_] = np.isin(hashes, hashes[rows])
        return found

    def read(self, rows: NDArray[np.bool_]) -> Iterator[pa.Table]:
        """Yield the chosen rows, row group by row group, in the order of the table."""
        for number in np.unique(self._numbers[rows]):
            places = np.flatnonzero(rows[self._numbers == number])
            yield self._load(int(number)).take(pa.array(places))

    def _read(self, number: int) -> pa.Table:
        return self._snapshot.read(self._groups[number])


def _hashes(texts: Sequence[str]) -> NDArray[np.int64]:
    return np.fromiter((hash(text) for text in texts), dtype=np.int64, count=len(texts))
