"""How a run's predictions are put before people: who sees them, and in which order.

Publishing asks one :class:`Showing` for every image and task. It says nothing about what a
prediction looks like; that is :mod:`labelstudio.publishing.payload`'s.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.records import Arm, Prediction


def least_sure(rows: Sequence[Prediction]) -> float:
    """Return how sure the model is of its least sure query, 0 to 1."""
    return min(unit(row.predicted_iou if row.present else 1 - row.seg_probability) for row in rows)


def always_shown(rows: Sequence[Prediction]) -> Arm:
    """Let people start from the predictions of every image."""
    assert rows
    return "shown"


def unit(value: float) -> float:
    """Return ``value`` within 0 to 1; what is not a number is 0."""
    return min(max(value, 0.0), 1.0) if math.isfinite(value) else 0.0


@dataclass(frozen=True, slots=True)
class Showing:
    """The decisions, each a function of predictions alone, so that every run decides the same.

    Attributes:
        score: of the queries of one task, 0 to 1; people can order tasks by it.
        arm: of all queries of one image. A ``blank`` task is sent without predictions.
        name: of the decisions; under another name, tasks that nobody has touched are shown anew.
    """

    score: Callable[[Sequence[Prediction]], float] = least_sure
    arm: Callable[[Sequence[Prediction]], Arm] = always_shown
    name: str = ""
