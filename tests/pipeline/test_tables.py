"""Tables: what is committed is read back, once, image by image."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, TableFeatures

from pipeline.errors import InputError, MissingError, StorageError
from pipeline.records import Failure, Prediction
from pipeline.storage import delta, reading, snapshot
from pipeline.storage.settings import S3Settings
from pipeline.storage.shards import write_shard
from pipeline.storage.store import Store, open_store
from pipeline.storage.tables import Outcome, PredictionTables

Predict = Callable[..., Prediction]
Fail = Callable[..., Failure]


def test_predictions_come_back_as_they_were(store: Store, predict: Predict) -> None:
    rows = [predict(1, "road"), predict(1, "absent"), predict(2, "road")]
    tables = PredictionTables(store)
    assert tables.commit([write_shard(store, rows[:2]), write_shard(store, rows[2:])]) == 3
    assert list(tables.read_by_image(row.key for row in rows)) == [rows[:2], rows[2:]]
    assert list(PredictionTables(store).read_by_image(row.key for row in rows)) == [
        rows[:2],
        rows[2:],
    ]
    assert list(store.list("shards")) == []


def test_tables_work_on_s3(s3: Any, predict: Predict, fail: Fail) -> None:
    address = s3.make_bucket("tables")
    store = open_store(f"{address}/run#1-50%/ü", S3Settings(endpoint=s3.endpoint))
    rows = [predict(1), predict(2), fail(3)]
    assert PredictionTables(store).commit([write_shard(store, rows)]) == 3
    tables = PredictionTables(store)
    assert list(tables.read_by_image(row.key for row in rows)) == [[rows[0]], [rows[1]]]
    assert list(tables.failures(row.key for row in rows)) == [rows[2]]
    assert list(store.list("shards")) == []


def test_a_store_may_have_an_odd_name(tmp_path: Path, predict: Predict) -> None:
    store = open_store(str(tmp_path / "run #1+ 50%?/ü"), S3Settings())
    PredictionTables(store).commit([write_shard(store, [predict(1)])])
    assert list(PredictionTables(store).read_by_image([predict(1).key])) == [[predict(1)]]
    assert [path.name for path in tmp_path.iterdir()] == ["run #1+ 50%?"]


def test_a_name_that_delta_would_misread_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run%20x/predictions: tables cannot lie below a name"):
        PredictionTables(open_store(str(tmp_path / "run%20x"), S3Settings()))


def test_a_shard_counts_what_is_in_it(store: Store, predict: Predict, fail: Fail) -> None:
    shard = write_shard(store, [predict(1), predict(1, "absent"), predict(2), fail(3)])
    assert (shard.images, shard.present, shard.absent, shard.failed) == (3, 2, 1, 1)
    assert [file.split("/")[1] for file in shard.files] == ["predictions", "failures"]


def test_only_the_asked_keys_are_read_in_their_order(store: Store, predict: Predict) -> None:
    rows = [predict(image, query) for image in range(3) for query in ("a", "bb", "ccc")]
    tables = PredictionTables(store)
    tables.commit([write_shard(store, rows)])
    asked = [rows[8].key, rows[1].key, "never predicted", rows[0].key, rows[6].key, rows[8].key]
    assert list(tables.read_by_image(asked)) == [[rows[8], rows[6]], [rows[1], rows[0]]]
    assert list(tables.read_by_image([])) == []
    assert list(tables.read_by_image(["never predicted"])) == []


def test_an_image_is_whole_even_if_its_queries_came_in_other_runs(
    store: Store, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_IMAGES_AT_ONCE", 3)
    images = list(range(10))
    for query in ("a", "bb", "ccc"):
        random.Random(query).shuffle(images)
        shards = [write_shard(store, [predict(image, query)]) for image in images]
        PredictionTables(store).commit(shards)
    wanted = [predict(image, query) for image in range(10) for query in ("bb", "a", "ccc")]
    found = list(PredictionTables(store).read_by_image(row.key for row in wanted))
    assert found == [wanted[start : start + 3] for start in range(0, 30, 3)]


def test_files_of_many_row_groups_are_read(
    store: Store, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta, "_ROWS_A_GROUP", 3)
    monkeypatch.setattr(snapshot, "_LEAST_FETCHED", 100)
    rows = [predict(number) for number in range(100)]
    tables = PredictionTables(store)
    tables.commit([write_shard(store, rows)])
    asked = [row.key for row in rows[::-7]]
    assert [found for (found,) in tables.read_by_image(asked)] == rows[::-7]
    assert tables.count(row.key for row in rows).present == 100


def test_an_empty_store_has_nothing_done(store: Store) -> None:
    tables = PredictionTables(store)
    assert tables.model_versions() == set()
    assert tables.adopt_orphans() == 0
    assert tables.commit([]) == 0
    assert list(tables.read_by_image(["x"])) == []
    assert tables.count(["x", "y", "x"]) == Outcome(present=0, absent=0, failed=0, missing=2)


def test_failures_that_may_pass_are_open_the_others_done(store: Store, fail: Fail) -> None:
    passing, lasting = fail(1, retryable=True), fail(2)
    PredictionTables(store).commit([write_shard(store, [passing, lasting])])
    tables = PredictionTables(store)
    assert tables.is_done(lasting.key)
    assert not tables.is_done(passing.key)
    assert {*tables.failures([passing.key, lasting.key])} == {passing, lasting}


def test_the_latest_failure_counts_and_a_prediction_hides_it(
    store: Store, predict: Predict, fail: Fail
) -> None:
    for reason in ("first", "second"):
        rows = [fail(image, retryable=True, reason=reason) for image in (1, 2)]
        PredictionTables(store).commit([write_shard(store, rows)])
    tables = PredictionTables(store)
    tables.commit([write_shard(store, [predict(1)])])
    keys = [predict(1).key, predict(2).key, predict(3).key]
    assert [failure.reason for failure in tables.failures(keys)] == ["second"]
    assert tables.count(keys) == Outcome(present=1, absent=0, failed=1, missing=1)


def test_counts_tell_present_from_absent(store: Store, predict: Predict) -> None:
    rows = [predict(1), predict(2), predict(1, "absent")]
    tables = PredictionTables(store)
    tables.commit([write_shard(store, rows)])
    assert tables.count(row.key for row in rows) == Outcome(2, 1, 0, 0)
    assert tables.count([rows[2].key]) == Outcome(0, 1, 0, 0)


def test_the_log_holds_no_long_columns(store: Store, predict: Predict) -> None:
    PredictionTables(store).commit([write_shard(store, [predict(1)])])
    entry = store.get("predictions/_delta_log/00000000000000000001.json").splitlines()[1]
    indexed = set(json.loads(json.loads(entry)["add"]["stats"])["minValues"])
    assert indexed == {"key", "image_id", "label", "model_version", "committed_at"}


def test_a_foreign_table_is_refused(store: Store) -> None:
    DeltaTable.create(store.delta_uri("predictions"), pa.schema([("x", pa.int32())]))
    with pytest.raises(StorageError, match=r"predictions: holds a table with other columns .x."):
        PredictionTables(store)


def test_a_file_that_is_no_shard_is_named(store: Store, predict: Predict) -> None:
    tables = PredictionTables(store)
    shard = write_shard(store, [predict(1)])
    data = store.get(shard.files[0])
    for damaged in (b"garbage", data[:4] + b"garbage" + data[11:]):
        store.put(shard.files[0], damaged)
        with pytest.raises(StorageError, match=rf"{shard.files[0]}: is not a shard of this"):
            tables.adopt_orphans()


def test_a_lost_file_of_a_table_is_named(store: Store, predict: Predict) -> None:
    tables = PredictionTables(store)
    tables.commit([write_shard(store, [predict(1)])])
    (data,) = [info for info in store.list("predictions") if info.uri.endswith(".parquet")]
    name = data.uri.rpartition("/")[2]
    store.delete([f"predictions/{name}"])
    with pytest.raises(MissingError, match=rf"predictions/{name}: does not exist"):
        list(tables.read_by_image([predict(1).key]))


def test_features_that_cannot_be_read_are_said(store: Store, predict: Predict) -> None:
    PredictionTables(store).commit([write_shard(store, [predict(1)])])
    table = DeltaTable(store.delta_uri("predictions"))
    table.alter.add_feature(TableFeatures.DeletionVectors, allow_protocol_versions_increase=True)
    with pytest.raises(StorageError, match="turned on Delta features that this version does not"):
        PredictionTables(store)


def test_the_latest_prediction_of_each_query_comes_by_image(store: Store, predict: Predict) -> None:
    tables = PredictionTables(store)
    assert list(tables.latest(["id 1"])) == []
    old = [predict(number, label) for number in (1, 2, 3) for label in ("road", "sky")]
    tables.commit([write_shard(store, old)])
    newer = replace(predict(2, "road"), key="newer", model_version="m2")
    tables.commit([write_shard(store, [newer])])
    found = list(PredictionTables(store).latest(["id 3", "id 9", "id 2"]))
    assert [[row.image_id for row in rows] for rows in found] == [["id 3"] * 2, ["id 2"] * 2]
    assert {row.key for row in found[1]} == {"newer", predict(2, "sky").key}
