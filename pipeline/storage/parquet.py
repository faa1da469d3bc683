"""Whole Parquet files in memory and in a store."""

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import StorageError
from pipeline.storage.store import Store

DAMAGED = (pa.ArrowException, OSError)
"""What pyarrow raises for a file that is not Parquet, or is damaged inside."""


def to_parquet(table: pa.Table) -> bytes:
    """Return a table as a compressed file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def from_parquet(data: bytes) -> pa.Table:
    """Return the table of a file; raises :data:`DAMAGED`."""
    return pq.read_table(pa.BufferReader(data))


def read_parquet(store: Store, path: str) -> pa.Table:
    """Return the table of a file in a store.

    Raises:
        StorageError: it is missing or damaged, or the store refused or broke.
    """
    data = store.get(path)
    try:
        return from_parquet(data)
    except DAMAGED as error:
        raise damaged(store, path, error) from error


def damaged(store: Store, path: str, error: Exception) -> StorageError:
    """Return an error that names a file."""
    return StorageError(f"{store.address.child(path).uri}: is not Parquet, or damaged: {error}")
