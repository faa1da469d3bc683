"""The key of a unit of work follows from all that decides its result, and nothing else."""

from dataclasses import fields, replace
from pathlib import Path

from pipeline.records import Failure, ImageRef, Prediction, Query, task_key
from pipeline.storage.schemas import COMMITTED_AT, FAILURES_SCHEMA, PREDICTIONS_SCHEMA

IMAGE = ImageRef(id="i", uri="file:///i.jpg", size=3, etag="e", group="g")
QUERY = Query("road", "the road")


def test_every_part_that_decides_changes_the_key() -> None:
    keys = {
        task_key(IMAGE, QUERY, "m", "{}"),
        task_key(replace(IMAGE, id="j"), QUERY, "m", "{}"),
        task_key(replace(IMAGE, etag="f"), QUERY, "m", "{}"),
        task_key(IMAGE, Query("sky", "the road"), "m", "{}"),
        task_key(IMAGE, Query("road", "a road"), "m", "{}"),
        task_key(IMAGE, QUERY, "n", "{}"),
        task_key(IMAGE, QUERY, "m", '{"x":1}'),
        task_key(IMAGE, replace(QUERY, form="phrase"), "m", "{}"),
        task_key(IMAGE, replace(QUERY, form="sentence"), "m", "{}"),
    }
    assert len(keys) == 9
    assert all(len(key) == 32 for key in keys)


def test_place_and_group_of_an_image_do_not_change_the_key() -> None:
    moved = replace(IMAGE, uri="s3://b/i.jpg", group="h", size=9)
    assert task_key(moved, QUERY, "m", "{}") == task_key(IMAGE, QUERY, "m", "{}")


def test_parts_do_not_run_into_each_other() -> None:
    first = task_key(IMAGE, Query("ab", "c"), "m", "{}")
    assert first != task_key(IMAGE, Query("a", "bc"), "m", "{}")


def test_the_tables_columns_are_the_records_fields() -> None:
    assert PREDICTIONS_SCHEMA.names == [field.name for field in fields(Prediction)]
    assert FAILURES_SCHEMA.names == [field.name for field in fields(Failure)]


def test_every_column_is_described(repository: Path) -> None:
    text = (repository / "docs/data.md").read_text(encoding="utf-8")
    for name in {*PREDICTIONS_SCHEMA.names, *FAILURES_SCHEMA.names, COMMITTED_AT.name}:
        assert f"`{name}`" in text
