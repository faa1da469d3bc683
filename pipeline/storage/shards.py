"""Shards: small Parquet files of results that workers write and the committer takes over."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.records import Failure, Prediction
from pipeline.storage.store import Store


@dataclass(frozen=True, slots=True)
class Shard:
    """One worker batch on the store; ``files`` are paths in it (predictions, failures)."""

    files: tuple[str, ...]
    images: int
    present: int
    absent: int
    failed: int


def write_shard(store: Store, rows: Sequence[Prediction | Failure]) -> Shard:
    """Write one batch of results; the names follow from its keys, so a retry overwrites."""
    raise NotImplementedError
