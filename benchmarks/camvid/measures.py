"""What answers on photographs are worth. Void pixels count neither as predicted nor as true."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from benchmarks.camvid.photos import Mask, Truth
from pipeline import masks
from pipeline.learning.exam import SEG, Judged
from pipeline.learning.measures import measure
from pipeline.records import Prediction

_ACCEPTABLE = 0.8


@dataclass(frozen=True, slots=True)
class Quality:
    """Shares in [0, 1]; ``miou`` and ``ciou`` are over queries whose object is there.

    Attributes:
        miou: mean IoU of a query; one that is answered "absent" counts 0.
        ciou: summed intersection over summed union.
        ciou_by_class: the same of each class; None for one that is in no picture.
        presence: share of all queries whose presence is answered right.
        accepted: share of present queries with an IoU of 0.8 or more.
    """

    miou: float
    ciou: float
    ciou_by_class: dict[str, float | None]
    presence: float
    accepted: float


def judge(row: Prediction, truth: Truth, group: str) -> Judged:
    """Compare an answer with the truth, void pixels left out.

    Raises:
        ValueError: picture and labels have different sizes.
    """
    true, counted = truth.masks[row.label], truth.counted
    predicted = masks.decode(row.mask)
    if predicted.shape != true.shape:
        raise ValueError(f"{row.image}: is {predicted.shape}, its labels are {true.shape}")
    predicted &= counted
    return Judged(
        label=row.label,
        group=group,
        present=truth.present(row.label),
        found=row.present,
        emitted=SEG in row.answer,
        intersection=int((predicted & true).sum()),
        union=int((predicted | true).sum()),
    )


def quality(scores: Collection[Judged]) -> Quality:
    """Return the measures of answers of which at least one is about something that is there."""
    found = measure(scores, _ACCEPTABLE)
    assert found.iou is not None
    assert found.ciou is not None
    assert found.presence is not None
    assert found.accepted is not None
    by_class = {label: values.ciou for label, values in found.by_label.items()}
    return Quality(found.iou, found.ciou, by_class, found.presence, found.accepted)


def pixels_to_change(shown: dict[str, Mask], truth: Truth) -> int:
    """Return in how many pixels what is shown differs from the truth, summed over the classes.

    A class that is not in ``shown`` is shown as absent.
    """
    nothing = np.zeros_like(truth.counted)
    return sum(
        int(((shown.get(label, nothing) != mask) & truth.counted).sum())
        for label, mask in truth.masks.items()
    )
