"""From found masks to one answer a label, and from these to predictions and corrections."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pycocotools import mask as coco

from pipeline import masks
from pipeline.boundary import boundary_f
from pipeline.exchange.found import FoundImage, FoundMask, Size
from pipeline.records import (
    Correction,
    ImageRef,
    LabelTask,
    Prediction,
    Rle,
    Timings,
    Verdict,
)

IMPORTED = "import:"
"""Model versions of imported predictions begin so, and names of importing annotators."""


@dataclass(frozen=True, slots=True)
class Brought:
    """What an import says of one (image, query); ``score`` is None where the source has none."""

    image: ImageRef
    task: LabelTask
    mask: Rle
    present: bool
    score: float | None


@dataclass(frozen=True, slots=True)
class Mapped:
    """The answers of one image by their labels; None instead of a mask is an absence.

    ``unknown`` categories have no label; ``empty`` are labels whose masks have no pixel, which
    says nothing. ``masks`` counts what was joined, ``crowds`` the crowds among them.
    """

    answers: dict[str, tuple[Rle | None, float | None]]
    unknown: tuple[str, ...]
    empty: tuple[str, ...]
    masks: int
    crowds: int


def mapped(found: FoundImage, label_of: Mapping[str, str]) -> Mapped:
    """Join the masks of an image that go to one label; a mask outranks a word of absence.

    A label is absent if all of its categories are.

    Args:
        found: what the source has on the image.
        label_of: the label of each category that has one.
    """
    parts: dict[str, list[FoundMask]] = {}
    unknown: dict[str, None] = {}
    for part in found.masks:
        if part.category in label_of:
            parts.setdefault(label_of[part.category], []).append(part)
        else:
            unknown[part.category] = None
    undecided = {label for category, label in label_of.items() if category not in found.absent}
    answers: dict[str, tuple[Rle | None, float | None]] = {
        label_of[category]: (None, None)
        for category in found.absent
        if category in label_of and label_of[category] not in undecided
    }
    joined = {label: _joined(those) for label, those in parts.items()}
    empty = tuple(label for label, (mask, _) in joined.items() if not masks.area(mask))
    answers |= joined
    kept = [part for those in parts.values() for part in those]
    return Mapped(
        answers={label: answer for label, answer in answers.items() if label not in empty},
        unknown=tuple(unknown),
        empty=empty,
        masks=len(kept),
        crowds=sum(part.crowd for part in kept),
    )


def _joined(parts: Sequence[FoundMask]) -> tuple[Rle, float | None]:
    """Return the union of masks and its least score, None if one has none."""
    scores = [part.score for part in parts if part.score is not None]
    score = min(scores) if len(scores) == len(parts) else None
    first = parts[0].mask
    packed = [
        {"size": [first.height, first.width], "counts": part.mask.counts.encode("ascii")}
        for part in parts
    ]
    return Rle(first.height, first.width, coco.merge(packed)["counts"].decode("ascii")), score


def brought(
    image: ImageRef,
    tasks: Collection[LabelTask],
    answers: Mapping[str, tuple[Rle | None, float | None]],
    size: Size,
) -> list[Brought]:
    """Return an image's answers in the order of its tasks; labels that are not asked are left."""
    return [
        Brought(image, task, mask or masks.empty(*size), mask is not None, score)
        for task in tasks
        if task.label in answers
        for mask, score in [answers[task.label]]
    ]


class ContentDigest:
    """What makes two imports the same: their answers, whatever files they came from."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, row: Brought) -> None:
        """Take one answer."""
        said = f"{row.present} {row.score} {row.mask.counts}"
        for part in (row.image.id, row.image.etag, row.task.label, row.task.query, said):
            encoded = part.encode()
            self._digest.update(len(encoded).to_bytes(8, "big") + encoded)

    def hex(self) -> str:
        """Return 16 hexadecimal digits."""
        return self._digest.hexdigest()[:16]


def prediction(row: Brought, key: str, model_version: str) -> Prediction:
    """Return an answer as a prediction; without a score it counts as certain.

    There are no points and no ``[SEG]`` vectors, which only a model has.
    """
    sure = 1.0 if row.score is None else row.score
    return Prediction(
        key=key,
        id=row.task.id,
        image_id=row.image.id,
        image=row.image.uri,
        image_size=row.image.size,
        etag=row.image.etag,
        group=row.image.group,
        width=row.mask.width,
        height=row.mask.height,
        label=row.task.label,
        query=row.task.query,
        present=row.present,
        answer="",
        seg_probability=sure if row.present else 0.0,
        seg_vectors=(),
        mask=row.mask,
        points=(),
        predicted_iou=sure if row.present else 0.0,
        stability=sure if row.present else 0.0,
        model_version=model_version,
        timings=Timings(0.0, 0.0, 0.0, 0.0, 0.0),
    )


def correction(
    row: Brought, predicted: Prediction | None, annotator: str, at: datetime
) -> Correction:
    """Return an answer as a correction, compared with the model's prediction if there is one.

    It did not start from that prediction: ``key`` and ``model_version`` stay empty.
    """
    verdict, iou, boundary = _compared(row, predicted)
    return Correction(
        id=correction_id(row, annotator),
        key="",
        project=0,
        task=0,
        annotation=0,
        image_id=row.image.id,
        image=row.image.uri,
        etag=row.image.etag,
        group=row.image.group,
        width=row.mask.width,
        height=row.mask.height,
        label=row.task.label,
        query=row.task.query,
        model_version="",
        arm="blank",
        verdict=verdict,
        present=row.present,
        mask=row.mask,
        points=(),
        iou=iou,
        boundary_f=boundary,
        annotator=annotator,
        seconds=0.0,
        updated_at=at,
    )


def correction_id(row: Brought, annotator: str) -> str:
    """Return the id of what an import says about an (image, query), the same every time."""
    parts = (annotator, row.image.id, row.task.label, row.task.query)
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return IMPORTED + digest.hexdigest()[:32]


def says_the_same(row: Brought, known: Correction) -> bool:
    """Return whether a correction says what an import says again."""
    if known.verdict == "deleted":
        return False
    return (row.present, row.mask, row.image.etag) == (known.present, known.mask, known.etag)


def _compared(row: Brought, predicted: Prediction | None) -> tuple[Verdict, float, float]:
    """Return the verdict, IoU and boundary F; no prediction compares like an empty mask."""
    size = (row.mask.height, row.mask.width)
    if predicted is None or (predicted.height, predicted.width) != size:
        return ("redrawn", 0.0, 0.0) if row.present else ("absent", 1.0, 1.0)
    iou = masks.iou(predicted.mask, row.mask)
    boundary = boundary_f(masks.decode(predicted.mask), masks.decode(row.mask))
    if not row.present:
        return ("absent" if predicted.present else "accepted"), iou, boundary
    if iou == 1.0:
        return "accepted", iou, boundary
    return ("edited" if iou else "redrawn"), iou, boundary
