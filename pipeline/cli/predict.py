"""One query on one image, without Ray or tables: what ``readloop predict`` shows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.storage.addresses import locate
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import ObjectReader
from workers.models import EngineLoader, plan_model
from workers.read.engine import Answer, ReadEngine, Segment
from workers.read.errors import ImageError, QueryError
from workers.read.images import decode
from workers.read.overlay import overlay
from workers.settings import LimitSettings, PoolSettings


@dataclass(frozen=True)
class Shown:
    """An answer with the size of its image in pixels and the version of its model."""

    answer: Answer
    width: int
    height: int
    model_version: str

    def to_json(self) -> dict[str, Any]:
        """Return the documented keys."""
        return {
            "answer": self.answer.text,
            "present": self.answer.present,
            "seg_probability": self.answer.seg_probability,
            "width": self.width,
            "height": self.height,
            "model_version": self.model_version,
            "segments": [_segment(segment) for segment in self.answer.segments],
        }

    def to_text(self) -> str:
        """Return the answer, then a line a mask and a line a point."""
        lines = [self.answer.text, "" if self.answer.present else "not in this image"]
        for segment in self.answer.segments:
            lines.append(
                f"mask of {int(segment.mask.sum())} pixels, predicted IoU "
                f"{segment.predicted_iou:.3f}, stability {segment.stability:.3f}"
            )
            lines += [
                f"  x {point['x']:.1f}  y {point['y']:.1f}  label {point['label']}  "
                f"similarity {point['similarity']:.3f}"
                for point in _points(segment)
            ]
        return "\n".join(line for line in lines if line)


def predict_one(image: str, query: str, model: str, out: Path | None, device: str) -> Shown:
    """Ask one query of one image and draw the answer to ``out`` (PNG).

    Raises:
        InputError: the image or the query cannot be used, or ``out`` cannot be written.
        ModelUnusableError: the model cannot be used.
        StorageError: the image's store refused or broke.
    """
    pixels, engine = prepare(image, model, device)
    characters = LimitSettings().query_characters
    (answer,) = engine.predict(pixels, [query], max_query_characters=characters)
    if isinstance(answer, QueryError):
        raise InputError(f"query {query[:60]!r}: {answer}") from answer
    if out is not None:
        write(out, overlay(pixels, query, answer))
    return Shown(answer, pixels.shape[1], pixels.shape[0], engine.version)


def prepare(image: str, model: str, device: str) -> tuple[NDArray[np.uint8], ReadEngine]:
    """Read an image as uint8 RGB (H, W, 3) and load a model.

    Raises:
        InputError: the image cannot be used.
        ModelUnusableError: the model cannot be used.
        StorageError: the image's store refused or broke.
    """
    s3, precision, limits = S3Settings(), PoolSettings().precision, LimitSettings()
    uri = locate(image).uri
    content = ObjectReader(s3).get(uri, limits.image_bytes)
    try:
        pixels = decode(content, limits.image_pixels)
    except ImageError as error:
        raise InputError(f"{uri}: {error}") from error
    planned = plan_model(model, s3, precision)
    return pixels, EngineLoader(planned.source, planned.tower, s3, precision, device)()


def write(path: Path, content: bytes) -> None:
    """Write a file, its folder too.

    Raises:
        InputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def _segment(segment: Segment) -> dict[str, Any]:
    return {
        "points": _points(segment),
        "predicted_iou": segment.predicted_iou,
        "stability": segment.stability,
        "area": int(segment.mask.sum()),
    }


def _points(segment: Segment) -> list[dict[str, Any]]:
    rows = zip(segment.points_xy, segment.point_labels, segment.point_similarity, strict=True)
    return [
        {"x": float(x), "y": float(y), "label": int(label), "similarity": float(similarity)}
        for (x, y), label, similarity in rows
    ]
