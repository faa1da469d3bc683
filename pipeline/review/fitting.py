"""Fits a calibration: a rising curve over the hand-made priority, or a regression.

Which of the two is decided by cross-validation in which no unit is on both sides.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from pipeline.review.calibration import Curve, Isotonic, Logistic, columns
from pipeline.review.priority import Features, hand_made

FOLDS = 5
KINDS = ("isotonic", "logistic")


def fit(kind: str, features: Sequence[Features], ious: NDArray[np.float64]) -> Curve:
    """Fit one kind of curve to the IoU that corrections have with predictions."""
    return _isotonic(features, ious) if kind == "isotonic" else _logistic(features, ious)


def cross_validated(
    features: Sequence[Features], ious: NDArray[np.float64], units: Sequence[str]
) -> dict[str, float]:
    """Return the mean squared error of each kind on units that it was not fitted to."""
    folds = GroupKFold(FOLDS)
    errors: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for fitted, held_out in folds.split(ious, groups=units):
        for kind in KINDS:
            curve = fit(kind, [features[i] for i in fitted], ious[fitted])
            expected = np.array([curve.expected_iou(features[i]) for i in held_out])
            errors[kind] += list((expected - ious[held_out]) ** 2)
    return {kind: float(np.mean(values)) for kind, values in errors.items()}


def _isotonic(features: Sequence[Features], ious: NDArray[np.float64]) -> Isotonic:
    scores = np.array([hand_made(row) for row in features])
    model = IsotonicRegression(y_min=0, y_max=1).fit(scores, ious)
    return Isotonic(
        score=tuple(map(float, model.X_thresholds_)), iou=tuple(map(float, model.y_thresholds_))
    )


def _logistic(features: Sequence[Features], ious: NDArray[np.float64]) -> Logistic:
    """Fit to shares: each row counts as a hit with weight IoU and as a miss with the rest."""
    table = np.stack([columns(row) for row in features])
    hits = np.repeat([1, 0], len(ious))
    model = LogisticRegression(C=10.0, max_iter=1000)
    model.fit(np.concatenate([table, table]), hits, np.concatenate([ious, 1 - ious]))
    return Logistic(weights=tuple(map(float, model.coef_[0])), intercept=float(model.intercept_[0]))
