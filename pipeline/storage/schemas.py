"""The columns of the stored tables, and records to and from Arrow.

A column is a field of the record of the same name; ``docs/data.md`` says what each means. The
committer adds ``committed_at``. Vectors, points and their similarity are 32-bit floats, as the
model makes them; all other numbers keep their full precision.
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

import pyarrow as pa

from pipeline.records import (
    CorrectedPoint,
    Correction,
    Failure,
    Point,
    Prediction,
    Rle,
    Timings,
)

_MASK = pa.struct([("height", pa.int32()), ("width", pa.int32()), ("counts", pa.string())])
_POINT = pa.struct(
    [
        ("x", pa.float32()),
        ("y", pa.float32()),
        ("label", pa.int8()),
        ("similarity", pa.float32()),
    ]
)
_TIMINGS = pa.struct([(field.name, pa.float64()) for field in fields(Timings)])

PREDICTIONS_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("id", pa.string()),
        ("image_id", pa.string()),
        ("image", pa.string()),
        ("image_size", pa.int64()),
        ("etag", pa.string()),
        ("group", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("label", pa.string()),
        ("query", pa.string()),
        ("present", pa.bool_()),
        ("answer", pa.string()),
        ("seg_probability", pa.float64()),
        ("seg_vectors", pa.list_(pa.list_(pa.float32()))),
        ("mask", _MASK),
        ("points", pa.list_(_POINT)),
        ("predicted_iou", pa.float64()),
        ("stability", pa.float64()),
        ("model_version", pa.string()),
        ("timings", _TIMINGS),
    ]
)

FAILURES_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("id", pa.string()),
        ("image_id", pa.string()),
        ("image", pa.string()),
        ("etag", pa.string()),
        ("label", pa.string()),
        ("query", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("retryable", pa.bool_()),
        ("model_version", pa.string()),
    ]
)

_CORRECTED_POINT = pa.struct(
    [
        ("x", pa.float32()),
        ("y", pa.float32()),
        ("label", pa.int8()),
        ("fate", pa.string()),
        ("from_x", pa.float32()),
        ("from_y", pa.float32()),
    ]
)

CORRECTIONS_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("key", pa.string()),
        ("project", pa.int64()),
        ("task", pa.int64()),
        ("annotation", pa.int64()),
        ("image_id", pa.string()),
        ("image", pa.string()),
        ("etag", pa.string()),
        ("group", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("label", pa.string()),
        ("query", pa.string()),
        ("model_version", pa.string()),
        ("arm", pa.string()),
        ("verdict", pa.string()),
        ("present", pa.bool_()),
        ("mask", _MASK),
        ("points", pa.list_(_CORRECTED_POINT)),
        ("iou", pa.float64()),
        ("boundary_f", pa.float64()),
        ("annotator", pa.string()),
        ("seconds", pa.float64()),
        ("updated_at", pa.timestamp("us", tz="UTC")),
        ("choice", pa.string()),
    ]
)

COMMITTED_AT = pa.field("committed_at", pa.timestamp("us", tz="UTC"))


def predictions_to_arrow(rows: Sequence[Prediction]) -> pa.Table:
    """Return predictions as a table of :data:`PREDICTIONS_SCHEMA`, in their order."""
    return _to_arrow(rows, PREDICTIONS_SCHEMA)


def failures_to_arrow(rows: Sequence[Failure]) -> pa.Table:
    """Return failures as a table of :data:`FAILURES_SCHEMA`, in their order."""
    return _to_arrow(rows, FAILURES_SCHEMA)


def corrections_to_arrow(rows: Sequence[Correction]) -> pa.Table:
    """Return corrections as a table of :data:`CORRECTIONS_SCHEMA`, in their order."""
    return _to_arrow(rows, CORRECTIONS_SCHEMA)


def predictions_from_arrow(table: pa.Table) -> Iterator[Prediction]:
    """Yield the rows of a table or of what was stored (``committed_at`` is left out)."""
    for row in table.select(PREDICTIONS_SCHEMA.names).to_pylist():
        row["mask"] = Rle(**row["mask"])
        row["points"] = tuple(Point(**point) for point in row["points"])
        row["seg_vectors"] = tuple(tuple(vector) for vector in row["seg_vectors"])
        row["timings"] = Timings(**row["timings"])
        yield Prediction(**row)


def failures_from_arrow(table: pa.Table) -> Iterator[Failure]:
    """Yield the rows of a table or of what was stored (``committed_at`` is left out)."""
    for row in table.select(FAILURES_SCHEMA.names).to_pylist():
        yield Failure(**row)


def corrections_from_arrow(table: pa.Table) -> Iterator[Correction]:
    """Yield the rows of a table or of what was stored (``committed_at`` is left out)."""
    for row in table.select(CORRECTIONS_SCHEMA.names).to_pylist():
        row["mask"] = Rle(**row["mask"])
        row["points"] = tuple(CorrectedPoint(**point) for point in row["points"])
        yield Correction(**row)


def _to_arrow(
    rows: Sequence[Prediction] | Sequence[Failure] | Sequence[Correction], schema: pa.Schema
) -> pa.Table:
    columns = [
        pa.array([_plain(getattr(row, field.name)) for row in rows], type=field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _plain(value: Any) -> Any:  # noqa: ANN401 - any field of a record
    if isinstance(value, Rle | Point | CorrectedPoint | Timings):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, tuple) and value and isinstance(value[0], Point | CorrectedPoint):
        return [_plain(point) for point in value]
    return value
