"""Images with their tasks, and what became of them, as the Arrow tables that Ray Data moves."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from pipeline.errors import ModelUnusableError, ReadloopError, StorageError
from pipeline.records import ImageRef, ImageTasks, LabelTask, ModelChange
from pipeline.storage.shards import Shard

_IMAGE = [("id", pa.string()), ("uri", pa.string()), ("size", pa.int64()), ("etag", pa.string())]
_TASK = pa.struct([(name, pa.string()) for name in ("key", "label", "query", "form", "id")])
TASKS_SCHEMA = pa.schema(
    [
        ("image", pa.struct([*_IMAGE, ("group", pa.string())])),
        ("tasks", pa.list_(_TASK)),
        ("done", pa.list_(_TASK)),
    ]
)
_COUNTS = [(name, pa.int64()) for name in ("images", "present", "absent", "failed")]
_CHANGE = pa.struct(
    [
        *((name, pa.string()) for name in ("before", "after", "reason")),
        *((name, pa.float64()) for name in ("pause", "load")),
    ]
)
_SHARD = pa.struct(
    [
        ("files", pa.list_(pa.string())),
        *_COUNTS,
        ("moved", pa.list_(pa.list_(pa.string()))),
        ("change", _CHANGE),
    ]
)
REPORT_SCHEMA = pa.schema([("shard", _SHARD), ("error_kind", pa.string()), ("error", pa.string())])
ENDS_THE_RUN = {kind.__name__: kind for kind in (ModelUnusableError, StorageError)}
"""Errors of a replica that another replica or another try would not mend."""


def tasks_to_table(images: Sequence[ImageTasks]) -> pa.Table:
    """Return one row an image."""
    return pa.Table.from_pylist([asdict(image) for image in images], schema=TASKS_SCHEMA)


def tasks_from_table(table: pa.Table) -> list[ImageTasks]:
    """Undo :func:`tasks_to_table`."""
    return [
        ImageTasks(
            image=ImageRef(**row["image"]),
            tasks=tuple(LabelTask(**task) for task in row["tasks"]),
            done=tuple(LabelTask(**task) for task in row["done"]),
        )
        for row in table.to_pylist()
    ]


def report_to_table(report: Shard | ReadloopError) -> pa.Table:
    """Return one row that says where a batch's rows are, or why the run has to end."""
    row: dict[str, object] = (
        {"shard": asdict(report)}
        if isinstance(report, Shard)
        else {"error_kind": type(report).__name__, "error": str(report)}
    )
    return pa.Table.from_pylist([row], schema=REPORT_SCHEMA)


def shards_from_table(table: pa.Table) -> Iterator[Shard]:
    """Undo :func:`report_to_table`, for any number of rows.

    Raises:
        ReadloopError: a row says why the run has to end.
    """
    for row in table.to_pylist():
        if row["error"] is not None:
            raise ENDS_THE_RUN.get(row["error_kind"], ReadloopError)(row["error"])
        yield _shard(row["shard"])


def _shard(row: dict[str, Any]) -> Shard:
    return Shard(
        files=tuple(row["files"]),
        **{name: row[name] for name, _ in _COUNTS},
        moved=tuple((old, new) for old, new in row["moved"]),
        change=ModelChange(**row["change"]) if row["change"] else None,
    )
