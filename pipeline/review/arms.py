"""What pre-annotation saves, and what it does to people's judgment: shown against blank images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.bootstrap import Interval, cluster_sums, interval, resample
from pipeline.records import Arm
from pipeline.review.evidence import Example, ReviewedImage
from pipeline.review.priority import Features


@dataclass(frozen=True, slots=True)
class ArmFigures:
    """One arm: ``seconds`` of work a query, and mean IoU of corrections with predictions."""

    images: int
    queries: int
    seconds: float | None
    iou: float | None


@dataclass(frozen=True, slots=True)
class ArmComparison:
    """Shown against blank, with 95 % intervals over resampled units; None: nothing to compare.

    ``saved`` is the share of a query's seconds that the prediction saves. ``iou_gap`` is mean IoU
    of corrections with predictions, shown minus blank: above 0, people draw closer to what they
    are shown than to what they would have drawn. ``iou_gap_adjusted`` is the same for IoU minus
    expected IoU, which takes out that doubtful images are looked at first.
    """

    shown: ArmFigures
    blank: ArmFigures
    saved: float | None
    saved_ci: Interval | None
    iou_gap: float | None
    iou_gap_ci: Interval | None
    iou_gap_adjusted: float | None
    iou_gap_adjusted_ci: Interval | None


def compare_arms(
    images: Sequence[ReviewedImage],
    units: Mapping[str, str],
    expected_iou: Callable[[Features], float],
) -> ArmComparison:
    """Compare the arms; ``units`` as :func:`pipeline.review.evidence.units` returns them."""
    saved = _contrast(images, units, lambda row: row.seconds, _saved)
    gap = _contrast(images, units, lambda row: row.iou, _gap)
    adjusted = _contrast(images, units, lambda row: row.iou - expected_iou(row.features), _gap)
    return ArmComparison(
        shown=_figures(images, "shown"),
        blank=_figures(images, "blank"),
        saved=saved[0],
        saved_ci=saved[1],
        iou_gap=gap[0],
        iou_gap_ci=gap[1],
        iou_gap_adjusted=adjusted[0],
        iou_gap_adjusted_ci=adjusted[1],
    )


def _figures(images: Sequence[ReviewedImage], arm: Arm) -> ArmFigures:
    own = [image for image in images if image.arm == arm]
    rows = [row for image in own for row in image.examples]
    return ArmFigures(
        images=len(own),
        queries=len(rows),
        seconds=float(np.mean([row.seconds for row in rows])) if rows else None,
        iou=float(np.mean([row.iou for row in rows])) if rows else None,
    )


def _contrast(
    images: Sequence[ReviewedImage],
    units: Mapping[str, str],
    value: Callable[[Example], float],
    of_means: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]],
) -> tuple[float | None, Interval | None]:
    """Return a figure of both arms' means and its interval, Nones where an arm is empty."""
    names, rows = [], []
    for image in images:
        shown = image.arm == "shown"
        for example in image.examples:
            names.append(units[image.image_id])
            own = (value(example), 1.0)
            rows.append((*own, 0.0, 0.0) if shown else (0.0, 0.0, *own))
    sums = cluster_sums(names, np.array(rows).reshape(-1, 4))
    whole = sums.sum(axis=0, keepdims=True)
    if not whole[0, 1] or not whole[0, 3]:
        return None, None
    figure = float(of_means(*_means(whole))[0])
    drawn = resample(sums)
    drawn = drawn[(drawn[:, 1] > 0) & (drawn[:, 3] > 0)]
    return figure, interval(of_means(*_means(drawn)))


def _means(sums: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return sums[:, 0] / sums[:, 1], sums[:, 2] / sums[:, 3]


def _saved(shown: NDArray[np.float64], blank: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 - np.divide(shown, blank, out=np.ones_like(shown), where=blank > 0)


def _gap(shown: NDArray[np.float64], blank: NDArray[np.float64]) -> NDArray[np.float64]:
    return shown - blank
