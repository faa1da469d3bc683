"""From what the engine answers to the record that is stored."""

from functools import reduce
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from pipeline import masks
from pipeline.records import ImageRef, LabelTask, Point, Prediction, Timings

if TYPE_CHECKING:
    from workers.read.engine import Answer, Segment


def prediction(
    image: ImageRef,
    task: LabelTask,
    answer: "Answer",
    *,
    size: tuple[int, int],
    model_version: str,
    timings: Timings,
) -> Prediction:
    """Return the record of one answer.

    ``size`` is (height, width) of the decoded image in pixels. Masks of several ``[SEG]`` are
    united; an answer that is not ``present`` keeps no mask, points or vectors.
    """
    segments = answer.segments if answer.present else ()
    return Prediction(
        key=task.key,
        id=task.id,
        image_id=image.id,
        image=image.uri,
        image_size=image.size,
        etag=image.etag,
        group=image.group,
        width=size[1],
        height=size[0],
        label=task.label,
        query=task.query,
        present=answer.present,
        answer=answer.text,
        seg_probability=float(answer.seg_probability),
        seg_vectors=tuple(tuple(map(float, segment.query_vector)) for segment in segments),
        mask=masks.encode(_union(segments, size)),
        points=tuple(point for segment in segments for point in _points(segment)),
        predicted_iou=min((float(segment.predicted_iou) for segment in segments), default=0.0),
        stability=min((float(segment.stability) for segment in segments), default=0.0),
        model_version=model_version,
        timings=timings,
    )


def _union(segments: "tuple[Segment, ...]", size: tuple[int, int]) -> masks.Mask:
    return reduce(np.logical_or, (segment.mask for segment in segments), np.zeros(size, bool))


def _points(segment: "Segment") -> list[Point]:
    rows = zip(segment.points_xy, segment.point_labels, segment.point_similarity, strict=True)
    return [
        Point(float(x), float(y), cast("Literal[1, 0, -1]", int(label)), float(similarity))
        for (x, y), label, similarity in rows
    ]
