"""The published measures, with bootstrap intervals over images.

gIoU is the mean of the queries' IoU, an empty answer to an empty truth counting 1; cIoU is summed
intersection over summed union; "see" accuracy is the share of queries whose presence is answered
right (READ, section "Published numbers").
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.bootstrap import Interval, cluster_sums, interval, resample


@dataclass(frozen=True, slots=True)
class Score:
    """What one query counts. ``intersection`` and ``union`` are pixels, ignored ones left out.

    ``present`` is the truth, ``found`` the model's word. ``denied``: it answered in words and
    without a mask. ``corrected``: the denial quotes the true expression, where one is known
    (``correction_due``).
    """

    image_id: str
    present: bool
    found: bool
    intersection: int
    union: int
    denied: bool
    correction_due: bool
    corrected: bool

    @property
    def iou(self) -> float:
        """Intersection over union, 1 where both masks are empty."""
        return self.intersection / self.union if self.union else 1.0


@dataclass(frozen=True, slots=True)
class Figures:
    """Shares in [0, 1]; intervals hold 95 % of the resampled figures. None: nothing to count.

    ``*_present`` leave out the queries whose object is absent. ``denied_absent`` is the share of
    absent objects denied in words, ``denied_present`` that of present ones, ``corrected_absent``
    that of false expressions whose denial quotes the true one.
    """

    giou: float
    giou_ci: Interval
    ciou: float
    ciou_ci: Interval
    see_accuracy: float
    queries: int
    images: int
    absent: int
    giou_present: float | None
    ciou_present: float | None
    denied_absent: float | None
    denied_present: float | None
    corrected_absent: float | None


def figures(scores: Sequence[Score]) -> Figures:
    """Return the figures over scores, of which there is at least one."""
    assert scores, "a mean needs a value"
    sums = _sums_by_image(scores)
    resampled = resample(sums)
    present = [score for score in scores if score.present]
    absent = [score for score in scores if not score.present]
    whole = sums.sum(axis=0, keepdims=True)
    of_present = _sums_by_image(present).sum(axis=0, keepdims=True) if present else None
    return Figures(
        giou=float(_giou(whole)[0]),
        giou_ci=interval(_giou(resampled)),
        ciou=float(_ciou(whole)[0]),
        ciou_ci=interval(_ciou(resampled)),
        see_accuracy=sum(score.present == score.found for score in scores) / len(scores),
        queries=len(scores),
        images=len(sums),
        absent=len(absent),
        giou_present=None if of_present is None else float(_giou(of_present)[0]),
        ciou_present=None if of_present is None else float(_ciou(of_present)[0]),
        denied_absent=_share(absent, lambda score: score.denied),
        denied_present=_share(present, lambda score: score.denied),
        corrected_absent=_share(
            [score for score in absent if score.correction_due], lambda score: score.corrected
        ),
    )


def _share(scores: Sequence[Score], holds: Callable[[Score], bool]) -> float | None:
    return sum(map(holds, scores)) / len(scores) if scores else None


def _sums_by_image(scores: Sequence[Score]) -> NDArray[np.float64]:
    """Return, per image, the sums of IoU, queries, intersections and unions: (images, 4)."""
    values = np.array([(score.iou, 1, score.intersection, score.union) for score in scores])
    return cluster_sums([score.image_id for score in scores], values)


def _giou(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return sums[:, 0] / sums[:, 1]


def _ciou(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return summed intersection over summed union, 1 where nothing is or was found anywhere."""
    union = sums[:, 3]
    return np.divide(sums[:, 2], union, out=np.ones_like(union), where=union > 0)
