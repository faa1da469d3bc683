"""The tables of a store: predictions and failures, written by one committer."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pipeline.records import Failure, Prediction
from pipeline.storage.shards import Shard
from pipeline.storage.store import Store


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many of the asked keys are predicted (present or absent), failed, or neither."""

    present: int
    absent: int
    failed: int
    missing: int


class PredictionTables:
    """Predictions and failures of one store. One thread of one process commits at a time."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def is_done(self, key: str) -> bool:
        """Return whether a unit of work has a prediction or a failure that will not pass."""
        raise NotImplementedError

    def committed_keys(self) -> frozenset[str]:
        """Return the keys for which :meth:`is_done` holds."""
        raise NotImplementedError

    def adopt_orphans(self) -> int:
        """Commit what an earlier, killed run left as shards; return the rows added.

        Call it before the work is planned. Failures that may pass are dropped, because the
        run tries them again.

        Raises:
            StoppedError: another run commits to this store.
        """
        raise NotImplementedError

    def commit(self, shards: Sequence[Shard]) -> int:
        """Append the shards' rows whose keys are new, then delete the shards; return the rows.

        Raises:
            StoppedError: another run commits to this store.
        """
        raise NotImplementedError

    def read_by_image(self, keys: Iterable[str]) -> Iterator[list[Prediction]]:
        """Yield the predictions with those keys, all of one image together."""
        raise NotImplementedError

    def failures(self, keys: Iterable[str]) -> Iterator[Failure]:
        """Yield the latest failure of each of those keys that has no prediction."""
        raise NotImplementedError

    def count(self, keys: Iterable[str]) -> Outcome:
        """Return how those keys stand."""
        raise NotImplementedError
