"""One committer: killed anywhere, or with a rival, nothing is lost and nothing is there twice."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from pipeline.errors import StoppedError, StorageError
from pipeline.records import Failure, Prediction
from pipeline.storage.settings import S3Settings
from pipeline.storage.shards import list_shards, write_shard
from pipeline.storage.store import Store, open_store
from pipeline.storage.tables import PredictionTables

Predict = Callable[..., Prediction]
Fail = Callable[..., Failure]


class Killed(BaseException):
    """Stands for the end of the process."""


def stored(store: Store, table: str) -> Counter[str]:
    """How often each key is in a table, read without the code under test."""
    delta = DeltaTable(store.delta_uri(table), storage_options=store.delta_options())
    paths = pa.table(delta.get_add_actions(flatten=True))["path"].to_pylist()
    files = [pa.BufferReader(store.get(f"{table}/{path}")) for path in paths]
    return Counter(
        key for file in files for key in pq.read_table(file, columns=["key"])["key"].to_pylist()
    )


def kill(*_: object) -> None:
    raise Killed


@pytest.fixture(params=["disk", "s3"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "disk":
        return open_store(str(tmp_path / "store"), S3Settings())
    server = request.getfixturevalue("s3")
    bucket = server.make_bucket(f"commit-{abs(hash(request.node.name)) % 10**9}")
    return open_store(f"{bucket}/run", S3Settings(endpoint=server.endpoint, retries=1))


def test_killed_between_shard_and_commit(anywhere: Store, predict: Predict, fail: Fail) -> None:
    rows = [predict(1), predict(2), fail(3), fail(4, retryable=True)]
    PredictionTables(anywhere)
    write_shard(anywhere, rows)
    tables = PredictionTables(anywhere)
    assert tables.adopt_orphans() == 3
    assert [tables.is_done(row.key) for row in rows] == [True, True, True, False]
    assert stored(anywhere, "predictions") == Counter(row.key for row in rows[:2])
    assert stored(anywhere, "failures") == Counter([rows[2].key])
    assert list(list_shards(anywhere)) == []
    assert tables.adopt_orphans() == 0


def test_killed_between_commit_and_delete(
    anywhere: Store, predict: Predict, fail: Fail, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [predict(1), fail(2), fail(3, retryable=True)]
    tables, shard = PredictionTables(anywhere), write_shard(anywhere, rows)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "delete", kill)
        with pytest.raises(Killed):
            tables.commit([shard])
    assert len(list(list_shards(anywhere))) == 2
    assert PredictionTables(anywhere).adopt_orphans() == 0
    assert list(list_shards(anywhere)) == []
    assert stored(anywhere, "predictions") == Counter([rows[0].key])
    assert stored(anywhere, "failures") == Counter([rows[1].key, rows[2].key])


def test_killed_between_the_two_tables(
    store: Store, predict: Predict, fail: Fail, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [predict(1), fail(2)]
    tables = PredictionTables(store)
    shard = write_shard(store, rows)
    with monkeypatch.context() as patch:
        patch.setattr(tables._failures, "append", kill)
        with pytest.raises(Killed):
            tables.commit([shard])
    assert PredictionTables(store).adopt_orphans() == 1
    assert stored(store, "predictions") == Counter([rows[0].key])
    assert stored(store, "failures") == Counter([rows[1].key])


def test_a_batch_that_ran_again_is_committed_once(store: Store, predict: Predict) -> None:
    tables = PredictionTables(store)
    first = write_shard(store, [predict(1), predict(2)])
    again = write_shard(store, [predict(2), predict(1)])
    assert first.files == again.files
    assert tables.commit([first]) == 2
    assert tables.commit([write_shard(store, [predict(1), predict(2)])]) == 0
    assert tables.commit([write_shard(store, [predict(2), predict(3), predict(3)])]) == 1
    assert set(stored(store, "predictions").values()) == {1}


def test_a_failure_does_not_return_once_there_is_a_prediction(
    store: Store, predict: Predict, fail: Fail
) -> None:
    tables = PredictionTables(store)
    tables.commit([write_shard(store, [predict(1)])])
    tables.commit([write_shard(store, [fail(1, retryable=True), fail(1)])])
    assert stored(store, "failures") == Counter()


def test_a_rival_is_noticed_by_whoever_commits_second(anywhere: Store, predict: Predict) -> None:
    first, second = PredictionTables(anywhere), PredictionTables(anywhere)
    assert first.commit([write_shard(anywhere, [predict(1)])]) == 1
    shard = write_shard(anywhere, [predict(1), predict(2)])
    with pytest.raises(StoppedError, match=r": another run writes to this store; let it end"):
        second.commit([shard])
    assert stored(anywhere, "predictions") == Counter([predict(1).key])
    assert list(list_shards(anywhere)) == list(shard.files)
    assert first.commit([write_shard(anywhere, [predict(3)])]) == 1


def test_a_rival_between_two_commits_is_noticed(store: Store, predict: Predict) -> None:
    first = PredictionTables(store)
    first.commit([write_shard(store, [predict(1)])])
    PredictionTables(store).commit([write_shard(store, [predict(2)])])
    with pytest.raises(StoppedError):
        first.commit([write_shard(store, [predict(2), predict(3)])])
    assert stored(store, "predictions") == Counter([predict(1).key, predict(2).key])


def test_a_rival_that_has_taken_over_the_shards_is_noticed(
    anywhere: Store, predict: Predict, fail: Fail
) -> None:
    first = PredictionTables(anywhere)
    labeled = write_shard(anywhere, [predict(1)])
    refused = write_shard(anywhere, [fail(2, retryable=True)])
    assert PredictionTables(anywhere).adopt_orphans() == 1
    for shard in (labeled, refused):
        with pytest.raises(StoppedError, match=r": another run writes to this store; let it end"):
            first.commit([shard])
    assert stored(anywhere, "predictions") == Counter([predict(1).key])


def test_rivals_at_the_same_moment_double_nothing(anywhere: Store, predict: Predict) -> None:
    shards = [write_shard(anywhere, [predict(n), predict(n + 1)]) for n in range(4)]
    rivals = [PredictionTables(anywhere) for _ in shards]

    def commit(number: int) -> bool:
        try:
            rivals[number].commit([shards[number]])
        except StoppedError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(commit, range(4))) == 1
    assert PredictionTables(anywhere).adopt_orphans() == 3
    assert stored(anywhere, "predictions") == Counter(predict(n).key for n in range(5))


def test_many_can_create_the_tables_at_once(anywhere: Store) -> None:
    with ThreadPoolExecutor(4) as pool:
        tables = list(pool.map(lambda _: PredictionTables(anywhere), range(4)))
    assert [table.model_versions() for table in tables] == [set()] * 4


def test_readers_and_other_tools_do_not_disturb_the_committer(
    store: Store, predict: Predict
) -> None:
    tables = PredictionTables(store)
    tables.commit([write_shard(store, [predict(1)])])
    DeltaTable(store.delta_uri("predictions")).optimize.compact()
    assert tables.commit([write_shard(store, [predict(2)])]) == 1
    assert stored(store, "predictions") == Counter([predict(1).key, predict(2).key])


def test_renewed_credentials_keep_the_fence(
    s3: Any, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = s3.make_bucket("renewed")
    store = open_store(address, S3Settings(endpoint=s3.endpoint, retries=0))
    tables = PredictionTables(store)
    PredictionTables(store).commit([write_shard(store, [predict(1)])])
    options = store.delta_options()
    monkeypatch.setattr(Store, "delta_options", lambda _: {**options, "timeout": "60s"})
    with pytest.raises(StoppedError):
        tables.commit([write_shard(store, [predict(2)])])


def test_a_store_that_breaks_leaves_the_rows_to_be_committed(
    s3: Any, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = s3.make_bucket("breaks")
    store = open_store(address, S3Settings(endpoint=s3.endpoint, retries=0))
    tables = PredictionTables(store)
    shard = write_shard(store, [predict(1)])
    wrong = {**store.delta_options(), "aws_secret_access_key": "wrong"}
    with monkeypatch.context() as patch:
        patch.setattr(Store, "delta_options", lambda _: wrong)
        with pytest.raises(StorageError, match="refuses"):
            tables.commit([shard])
    assert tables.commit([shard]) == 1
    assert stored(store, "predictions") == Counter([predict(1).key])
