"""How much a look at a prediction is worth: what the model knows of itself, as one record.

:func:`hand_made` turns it into a number in [0, 1] until a calibration does better; the lower, the
more a look is worth.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline import masks
from pipeline.records import Prediction


@dataclass(frozen=True, slots=True)
class Features:
    """What speaks for a prediction, each in [0, 1].

    ``certainty`` is the probability of ``[SEG]``, or one minus it where the object is absent.
    ``predicted_iou`` and ``stability`` are SAM's, ``agreement`` is how far the mask does what its
    points say (the share of inside points in it and of outside points out of it, averaged); the
    three are 0 where the object is absent. ``rewording`` is the IoU with the answer to another
    wording of the query, None where there was no other.
    """

    present: bool
    certainty: float
    predicted_iou: float
    stability: float
    agreement: float
    rewording: float | None


def features_of(row: Prediction, rewordings: Sequence[Prediction] = ()) -> Features:
    """Return the features of a prediction.

    Args:
        row: the prediction.
        rewordings: what the same model made of other wordings of the query on the same image.
    """
    overlaps = [masks.iou(row.mask, other.mask) for other in rewordings]
    return Features(
        present=row.present,
        certainty=_unit(row.seg_probability if row.present else 1 - row.seg_probability),
        predicted_iou=_unit(row.predicted_iou) if row.present else 0.0,
        stability=_unit(row.stability) if row.present else 0.0,
        agreement=_agreement(row) if row.present else 0.0,
        rewording=min(overlaps) if overlaps else None,
    )


def hand_made(features: Features) -> float:
    """Return the geometric mean of the features that there are: one that is near 0 shows."""
    parts = [features.certainty]
    if features.present:
        parts += [features.predicted_iou, features.stability, features.agreement]
    if features.rewording is not None:
        parts.append(features.rewording)
    return math.prod(parts) ** (1 / len(parts))


def _agreement(row: Prediction) -> float:
    mask = masks.decode(row.mask)
    shares = []
    for sign in (1, 0):
        places = np.array([(p.y, p.x) for p in row.points if p.label == sign]).reshape(-1, 2)
        if len(places):
            y, x = np.clip(places.astype(int), 0, np.array(mask.shape) - 1).T
            shares.append(float((mask[y, x] == bool(sign)).mean()))
    return sum(shares) / len(shares) if shares else 1.0


def _unit(value: float) -> float:
    return min(max(value, 0.0), 1.0) if math.isfinite(value) else 0.0
