"""Reading the Parquet files of one version of a table, row group by row group.

pyarrow reads them from byte ranges that obstore fetches in the calling thread. deltalake's own
pyarrow file system is not used: threads that it leaves behind abort some processes as they end.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.storage.parquet import DAMAGED, damaged
from pipeline.storage.store import Store

_FILES_AT_ONCE = 8
_FILES_OPEN = 16
_LEAST_FETCHED = 65_536


@dataclass(frozen=True, slots=True)
class TableFile:
    """One file of a table: its path in the store and its size in bytes."""

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A part of a file that can be read on its own."""

    file: TableFile
    number: int


class Snapshot:
    """The files of one version of a table. Methods raise StorageError when the store fails."""

    def __init__(self, store: Store, files: Sequence[TableFile], schema: pa.Schema) -> None:
        self.schema = schema
        self._store = store
        self._files = files
        self._opened = lru_cache(maxsize=_FILES_OPEN)(partial(_OpenFile, store))

    def scan(self, columns: Sequence[str]) -> Iterator[tuple[RowGroup, pa.Table]]:
        """Yield some columns of every row group; several files are read at once."""

        def read(file: TableFile) -> list[tuple[RowGroup, pa.Table]]:
            opened = _OpenFile(self._store, file)
            return [
                (RowGroup(file, number), opened.read(number, columns))
                for number in range(opened.groups)
            ]

        with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
            for start in range(0, len(self._files), _FILES_AT_ONCE):
                for found in pool.map(read, self._files[start : start + _FILES_AT_ONCE]):
                    yield from found

    def read(self, group: RowGroup) -> pa.Table:
        """Return all columns of one row group."""
        return self._opened(group.file).read(group.number, self.schema.names)


class _OpenFile:
    """A Parquet file whose footer has been read."""

    def __init__(self, store: Store, file: TableFile) -> None:
        self._ranges = RangedFile(partial(store.get_range, file.path), file.size)
        self._damaged = partial(damaged, store, file.path)
        try:
            self._parquet = pq.ParquetFile(self._ranges, pre_buffer=False)
        except DAMAGED as error:
            raise self._damaged(error) from error

    @property
    def groups(self) -> int:
        return int(self._parquet.num_row_groups)

    def read(self, number: int, columns: Sequence[str]) -> pa.Table:
        self._ranges.hold(*self._extent(number, columns))
        try:
            return self._parquet.read_row_group(number, columns=list(columns), use_threads=False)
        except DAMAGED as error:
            raise self._damaged(error) from error

    def _extent(self, number: int, columns: Sequence[str]) -> tuple[int, int]:
        """Return the bytes from the first to the last wanted column."""
        group = self._parquet.metadata.row_group(number)
        chunks = [group.column(index) for index in range(group.num_columns)]
        wanted = [chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns]
        starts = [chunk.dictionary_page_offset or chunk.data_page_offset for chunk in wanted]
        ends = [
            start + chunk.total_compressed_size for start, chunk in zip(starts, wanted, strict=True)
        ]
        return min(starts), max(ends)


class RangedFile(io.RawIOBase):
    """A file that is read by byte ranges and holds one of them in memory.

    Args:
        fetch: returns the bytes from a start to an end.
        size: of the whole file, in bytes.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size: int) -> None:
        super().__init__()
        self._fetch = fetch
        self._size = size
        self._place = 0
        self._start = 0
        self._held = b""

    def hold(self, start: int, end: int) -> None:
        """Fetch a range, which the following reads are served from."""
        if not self._start <= start <= end <= self._start + len(self._held):
            self._start, self._held = start, self._fetch(start, end)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        end = self._size if size < 0 else min(self._size, self._place + size)
        start = self._place
        if not self._start <= start <= end <= self._start + len(self._held):
            self.hold(start, min(self._size, max(end, start + _LEAST_FETCHED)))
        self._place = end
        return self._held[start - self._start : end - self._start]

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a place and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = base + offset
        return self._place

    def tell(self) -> int:
        """Return the place of the next read."""
        return self._place

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readable(self) -> bool:
        """Return True."""
        return True
