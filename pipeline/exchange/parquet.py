"""``masks.parquet``: one row a shape, and one for each label that is known to be absent."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import masks
from pipeline.exchange.records import Answer, Category, ExportedImage, Shape
from pipeline.exchange.writing import Report, box
from pipeline.records import Rle

NAME = "masks.parquet"
_ROWS_A_GROUP = 2048
SCHEMA = pa.schema(
    [
        ("file_name", pa.string()),
        ("uri", pa.string()),
        ("etag", pa.string()),
        ("group", pa.string()),
        ("split", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("category_id", pa.int32()),
        ("label", pa.string()),
        ("query", pa.string()),
        ("present", pa.bool_()),
        ("instance", pa.int32()),
        (
            "mask",
            pa.struct([("height", pa.int32()), ("width", pa.int32()), ("counts", pa.string())]),
        ),
        ("area", pa.int64()),
        ("bbox", pa.list_(pa.float32())),
        ("score", pa.float64()),
        ("verdict", pa.string()),
        ("model_version", pa.string()),
        ("key", pa.string()),
    ]
)


class ParquetWriter:
    """Writes ``masks.parquet``, a row group at a time."""

    def __init__(self, folder: Path, files: ExitStack, *, categories: Sequence[Category]) -> None:
        self._ids = {category.name: category.id for category in categories}
        writer = pq.ParquetWriter(folder / NAME, SCHEMA, compression="zstd")
        self._writer = files.enter_context(writer)
        self._rows: list[dict[str, Any]] = []

    def add(self, image: ExportedImage) -> None:
        """Write the rows of one image."""
        for shape in image.shapes:
            self._rows.append(self._row(image, shape.answer) | _shape(shape))
        for answer in image.source.answers:
            if answer.label in image.absent:
                self._rows.append(self._row(image, answer) | _nothing(image))
        if len(self._rows) >= _ROWS_A_GROUP:
            self._flush()

    def close(self) -> Report:
        """Finish the file."""
        self._flush()
        self._writer.close()
        return {}

    def _row(self, image: ExportedImage, answer: Answer) -> dict[str, Any]:
        source = image.source
        return {
            "file_name": source.name,
            "uri": source.image.uri,
            "etag": source.image.etag,
            "group": source.image.group,
            "split": image.split,
            "width": source.width,
            "height": source.height,
            "category_id": self._ids[answer.label],
            "label": answer.label,
            "query": answer.query,
            "score": answer.score,
            "verdict": answer.verdict,
            "model_version": answer.model_version,
            "key": answer.key,
        }

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=SCHEMA))
        self._rows = []


def _shape(shape: Shape) -> dict[str, Any]:
    return {
        "present": True,
        "instance": shape.number,
        "mask": _struct(shape.mask),
        "area": masks.area(shape.mask),
        "bbox": box(shape.mask),
    }


def _nothing(image: ExportedImage) -> dict[str, Any]:
    empty = masks.empty(image.source.height, image.source.width)
    return {"present": False, "instance": 0, "mask": _struct(empty), "area": 0, "bbox": [0.0] * 4}


def _struct(rle: Rle) -> dict[str, Any]:
    return {"height": rle.height, "width": rle.width, "counts": rle.counts}
