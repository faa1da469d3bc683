"""Parquet files of a store: a damaged one is named."""

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.errors import MissingError, StorageError
from pipeline.storage.delta import FencedTable
from pipeline.storage.parquet import read_parquet, to_parquet
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import open_store

ROWS = pa.table({"key": [f"{number:08d}" for number in range(1000)]})


@pytest.mark.parametrize("content", [b"", b"no", to_parquet(ROWS)[:-9], to_parquet(ROWS)[9:]])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    store = open_store(str(tmp_path), S3Settings())
    store.put("a/whole.parquet", to_parquet(ROWS))
    assert read_parquet(store, "a/whole.parquet") == ROWS
    store.put("a/damaged.parquet", content)
    with pytest.raises(StorageError, match=r"a/damaged\.parquet: is not Parquet, or damaged"):
        read_parquet(store, "a/damaged.parquet")
    with pytest.raises(MissingError, match=r"a/gone\.parquet"):
        read_parquet(store, "a/gone.parquet")


@pytest.mark.parametrize("place", [4, -8])
def test_a_damaged_file_of_a_table_is_named(tmp_path: Path, place: int) -> None:
    table = FencedTable(open_store(str(tmp_path), S3Settings()), "numbers", ROWS.schema)
    table.append(ROWS)
    (file,) = tmp_path.rglob("*.parquet")
    content = bytearray(file.read_bytes())
    content[place : place + 4] = b"\xff" * 4
    file.write_bytes(content)
    with pytest.raises(StorageError, match=rf"{file.name}: is not Parquet, or damaged"):
        list(table.snapshot().scan(["key"]))
