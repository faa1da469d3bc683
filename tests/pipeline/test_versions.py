"""Finding all predictions of an image by the key of one, over several commits."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from pipeline.records import Prediction
from pipeline.storage.shards import write_shard
from pipeline.storage.store import Store
from pipeline.storage.tables import PredictionTables

Predict = Callable[[int, str], Prediction]


@pytest.fixture
def tables(store: Store, predict: Predict) -> PredictionTables:
    """Tables with six images of two queries, answered by two versions in two commits."""
    tables = PredictionTables(store)
    old = [predict(image, query) for image in range(6) for query in ("road", "sky")]
    new = [replace(row, key=f"2 {row.key}", model_version="m2") for row in old]
    tables.commit([write_shard(store, old)])
    tables.commit([write_shard(store, new)])
    return tables


def test_any_key_finds_all_versions_oldest_first(
    tables: PredictionTables, predict: Predict
) -> None:
    key = predict(3, "road").key
    found = tables.versions().of_images([f"2 {key}"])
    assert list(found) == [f"2 {key}"]
    rows = found[f"2 {key}"]
    assert [(row.label, row.model_version) for row in rows] == [
        ("road", "m1"),
        ("sky", "m1"),
        ("road", "m2"),
        ("sky", "m2"),
    ]
    assert {row.image_id for row in rows} == {"id 3"}
    assert rows[0] == predict(3, "road")


def test_unknown_keys_are_left_out(tables: PredictionTables, predict: Predict) -> None:
    known = predict(1, "sky").key
    assert list(tables.versions().of_images(["nobody's", known, known])) == [known]


def test_an_empty_table_knows_nothing(store: Store) -> None:
    assert PredictionTables(store).versions().of_images(["a"]) == {}
