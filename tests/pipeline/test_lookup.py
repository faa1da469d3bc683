"""Single predictions by key, out of a table that grows."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import StorageError
from pipeline.records import Prediction
from pipeline.storage.lookup import LOOK_AGAIN_SECONDS, PredictionLookup
from pipeline.storage.shards import write_shard
from pipeline.storage.store import Store
from pipeline.storage.tables import PredictionTables


class Clock:
    """A clock that is set."""

    now = 100.0

    def __call__(self) -> float:
        """Return the time it was set to."""
        return self.now


def test_rows_are_found_also_later_ones(
    store: Store, predict: Callable[[int, str], Prediction]
) -> None:
    tables, clock = PredictionTables(store), Clock()
    rows = [predict(number, "road") for number in range(5)]
    tables.commit([write_shard(store, rows[:3])])
    lookup = PredictionLookup(store, clock)
    assert [lookup.get(row.key) for row in rows[:3]] == rows[:3]
    tables.commit([write_shard(store, rows[3:])])
    assert lookup.get(rows[4].key) is None  # it has just looked
    clock.now += LOOK_AGAIN_SECONDS
    assert lookup.get(rows[4].key) == rows[4]
    assert lookup.get(rows[0].key) == rows[0]


def test_what_was_known_is_found_after_a_look_that_failed(
    store: Store, predict: Callable[[int, str], Prediction], tmp_path: Path
) -> None:
    tables, clock = PredictionTables(store), Clock()
    rows = [predict(number, "road") for number in range(3)]
    tables.commit([write_shard(store, rows[:2])])
    lookup = PredictionLookup(store, clock)
    assert lookup.get(rows[0].key) == rows[0]
    clock.now += LOOK_AGAIN_SECONDS
    files = list((tmp_path / "store" / "predictions").glob("*.parquet"))
    away = [file.rename(file.with_suffix(".away")) for file in files]
    with pytest.raises(StorageError, match="does not exist"):
        lookup.get(rows[2].key)
    for file, there in zip(away, files, strict=True):
        file.rename(there)
    assert [lookup.get(row.key) for row in rows[:2]] == rows[:2]
    tables.commit([write_shard(store, rows[2:])])
    clock.now += LOOK_AGAIN_SECONDS
    assert lookup.get(rows[2].key) == rows[2]


@pytest.mark.parametrize("key", ["", "f" * 32, "x" * 65, "é" * 32, "../../secret"])
def test_other_keys_are_not_there(store: Store, key: str) -> None:
    assert PredictionLookup(store).get(key) is None
