"""How far expected IoU is from what corrections say: the calibration curve and its errors.

The expected calibration error is the mean over rows of a bin's |mean observed - mean expected|,
here for a number in [0, 1] in place of a class (Naeini, Cooper and Hauskrecht 2015, "Obtaining
well calibrated probabilities using Bayesian binning"); bins hold about equally many rows. Few rows
make it too large, never too small on average.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.bootstrap import Interval, cluster_sums, interval, resample

BINS = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """A piece of the curve: means of expected and observed IoU over ``rows``."""

    expected: float
    observed: float
    rows: int


@dataclass(frozen=True, slots=True)
class Reliability:
    """Errors in IoU, in [0, 1], with 95 % intervals over resampled units; ``bias`` is signed.

    ``bias`` is mean expected minus mean observed: above 0, predictions are worse than expected.
    """

    rows: int
    units: int
    ece: float
    ece_ci: Interval
    mae: float
    mae_ci: Interval
    bias: float
    bias_ci: Interval
    curve: tuple[Bin, ...]


def reliability(
    expected: NDArray[np.float64], observed: NDArray[np.float64], units: Sequence[str]
) -> Reliability:
    """Compare expected with observed IoU, both (rows,) with at least one row."""
    bins = _bins(expected)
    gaps = expected - observed
    by_bin = np.where(bins[:, None] == np.arange(bins.max() + 1), gaps[:, None], 0.0)
    rows = np.column_stack([np.ones(len(gaps)), np.abs(gaps), gaps, by_bin])
    sums = cluster_sums(units, rows)
    (whole,) = _figures(sums.sum(axis=0, keepdims=True))
    ece, mae, bias = _figures(resample(sums)).T
    return Reliability(
        rows=len(gaps),
        units=len(sums),
        ece=float(whole[0]),
        ece_ci=interval(ece),
        mae=float(whole[1]),
        mae_ci=interval(mae),
        bias=float(whole[2]),
        bias_ci=interval(bias),
        curve=tuple(
            Bin(float(expected[own].mean()), float(observed[own].mean()), int(own.sum()))
            for own in (bins == number for number in range(bins.max() + 1))
        ),
    )


def _figures(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ECE, MAE and bias (…, 3) from sums of rows, absolute gaps, gaps, and gaps by bin."""
    parts = (np.abs(sums[:, 3:]).sum(axis=1), sums[:, 1], sums[:, 2])
    return np.column_stack(parts) / sums[:, :1]


def _bins(expected: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return each row's bin; equal values share one, and none is empty."""
    inner = np.quantile(expected, np.arange(1, BINS) / BINS, method="lower")
    raw = np.searchsorted(np.unique(inner), expected, side="left")
    return np.asarray(np.unique(raw, return_inverse=True)[1], dtype=np.int64)
