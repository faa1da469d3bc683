"""Shards: small Parquet files of results that workers write and the committer takes over.

A shard's name follows from the keys in it, so that a batch which Ray runs again overwrites its
own files. A file appears whole or not at all, so one that is there is complete.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipeline.errors import StorageError
from pipeline.records import Failure, ModelChange, Prediction
from pipeline.storage.parquet import DAMAGED, from_parquet, to_parquet
from pipeline.storage.schemas import (
    FAILURES_SCHEMA,
    PREDICTIONS_SCHEMA,
    failures_to_arrow,
    predictions_to_arrow,
)
from pipeline.storage.store import Store

FOLDER = "shards"
PREDICTIONS = f"{FOLDER}/predictions"
FAILURES = f"{FOLDER}/failures"
_SCHEMAS = {PREDICTIONS: PREDICTIONS_SCHEMA, FAILURES: FAILURES_SCHEMA}


@dataclass(frozen=True, slots=True)
class Shard:
    """One worker's batch on the store; ``files`` are its paths there, one a table.

    ``moved`` are the keys that were asked with those that the answers have, where a newer model
    than planned made them. ``change`` is what became of the replica's model before this batch.
    """

    files: tuple[str, ...]
    images: int
    present: int
    absent: int
    failed: int
    moved: tuple[tuple[str, str], ...] = ()
    change: ModelChange | None = None


def write_shard(store: Store, rows: Sequence[Prediction | Failure]) -> Shard:
    """Write one batch of results: its predictions and its failures, each as one file.

    Raises:
        StorageError: the store failed.
    """
    predictions = [row for row in rows if isinstance(row, Prediction)]
    failures = [row for row in rows if isinstance(row, Failure)]
    files = []
    if predictions:
        files.append(_write(store, PREDICTIONS, predictions_to_arrow(predictions)))
    if failures:
        files.append(_write(store, FAILURES, failures_to_arrow(failures)))
    present = sum(prediction.present for prediction in predictions)
    return Shard(
        files=tuple(files),
        images=len({row.image_id for row in rows}),
        present=present,
        absent=len(predictions) - present,
        failed=len(failures),
    )


def read_shard(store: Store, file: str) -> pa.Table:
    """Return one file of a shard, in the schema of its table.

    Raises:
        StorageError: the file is missing, damaged, or not such a shard.
    """
    schema = _SCHEMAS[file.rpartition("/")[0]]
    data = store.get(file)
    try:
        table = from_parquet(data)
    except DAMAGED as error:
        raise _unusable(store, file) from error
    if table.schema != schema:
        raise _unusable(store, file)
    return table


def list_shards(store: Store) -> Iterator[str]:
    """Yield the paths of all shard files on the store, predictions first."""
    for folder in (PREDICTIONS, FAILURES):
        for info in store.list(folder):
            yield f"{folder}/{info.uri.rpartition('/')[2]}"


def _write(store: Store, folder: str, table: pa.Table) -> str:
    path = f"{folder}/{_name(table.column('key').to_pylist())}.parquet"
    store.put(path, to_parquet(table))
    return path


def _name(keys: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()[:32]


def _unusable(store: Store, file: str) -> StorageError:
    return StorageError(
        f"{store.address.child(file).uri}: is not a shard of this version; delete it, its rows "
        "will be made again"
    )
