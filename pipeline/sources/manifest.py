"""Manifests: tables of images with their queries, one row a query.

Columns: ``image`` (absolute, ``s3://``, or relative to the manifest's folder), ``query``,
``label``, ``id`` and ``group``; all but the first are optional. An image without a query (no
such column, or null) only gets the run file's; an empty one is a query that cannot be answered.
"""

from collections.abc import Iterable
from itertools import islice

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.sources.rows import Row, check_columns, csv_rows, jsonl_rows
from pipeline.storage.addresses import Address
from pipeline.storage.parquet import DAMAGED, from_parquet
from pipeline.storage.store import ObjectReader

COLUMNS = ("image", "query", "label", "id", "group")
SUFFIXES = (".csv", ".jsonl", ".parquet")
_SCHEMA = pa.schema([(name, pa.string()) for name in COLUMNS])
_MAX_BYTES = 2_000_000_000
_ROWS_AT_ONCE = 65_536


def is_manifest(place: Address) -> bool:
    """Return whether an address names a manifest, by its suffix."""
    return place.path.lower().endswith(SUFFIXES)


def read_manifest(place: Address, reader: ObjectReader) -> pa.Table:
    """Return a manifest's rows as strings in :data:`COLUMNS`, nulls where a cell is missing.

    Raises:
        InputError: it is empty, damaged, not of the kind its suffix says, or has unknown columns.
        StorageError: it is missing or cannot be read.
    """
    data = reader.get(place.uri, _MAX_BYTES)
    suffix = place.path.lower().rpartition(".")[2]
    if suffix == "parquet":
        table = _parquet(data, place.uri)
    else:
        rows = csv_rows if suffix == "csv" else jsonl_rows
        table = _table(rows(data, place.uri, COLUMNS, "image"))
    if not table.num_rows:
        raise InputError(f"{place.uri}: the manifest has no rows")
    return table


def _table(rows: Iterable[Row]) -> pa.Table:
    batches = []
    source = iter(rows)
    while block := list(islice(source, _ROWS_AT_ONCE)):
        columns = [pa.array([row.get(name) for row in block], pa.string()) for name in COLUMNS]
        batches.append(pa.record_batch(columns, schema=_SCHEMA))
    return pa.Table.from_batches(batches, schema=_SCHEMA)


def _parquet(data: bytes, uri: str) -> pa.Table:
    try:
        table = from_parquet(data)
    except DAMAGED as error:
        raise InputError(f"{uri}: is not Parquet, or damaged: {error}") from error
    check_columns(table.column_names, COLUMNS, "image", uri)
    columns = [
        _strings(table.column(name), name, uri)
        if name in table.column_names
        else pa.nulls(table.num_rows, pa.string())
        for name in COLUMNS
    ]
    return pa.Table.from_arrays(columns, schema=_SCHEMA)


def _strings(column: pa.ChunkedArray, name: str, uri: str) -> pa.ChunkedArray:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    textual = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    number = pa.types.is_integer(kind) and name in ("id", "group")
    if not (textual or number or pa.types.is_null(kind)):
        raise InputError(f"{uri}: column {name!r} holds {column.type}, it must hold strings")
    return column.cast(pa.string())
