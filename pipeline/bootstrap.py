"""Bootstrap intervals over clusters: images, or groups of them, are resampled, never their queries.

Resampling the queries of an image would call 400 answers on 100 images four times as sure as they
are. Percentile intervals; the draws are the same every time.
"""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000
SEED = 0
COVERAGE = 0.95
_AT_ONCE = 100

Interval = tuple[float, float]


def cluster_sums(clusters: Sequence[Hashable], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums of ``values`` (rows, columns) in each cluster: (clusters, columns)."""
    places: dict[Hashable, int] = {}
    rows = np.array([places.setdefault(name, len(places)) for name in clusters], dtype=np.int64)
    sums = np.zeros((len(places), values.shape[1]))
    np.add.at(sums, rows, values)
    return sums


def resample(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Draw as many clusters as there are, with replacement; return the sums (RESAMPLES, columns).

    Args:
        sums: what each cluster adds, (clusters, columns).
    """
    random = np.random.default_rng(SEED)
    count = len(sums)
    even = np.full(count, 1 / count)
    return np.concatenate(
        [random.multinomial(count, even, _AT_ONCE) @ sums for _ in range(RESAMPLES // _AT_ONCE)]
    )


def interval(values: NDArray[np.float64]) -> Interval:
    """Return what holds the middle 95 % of resampled figures."""
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def mean_interval(values: Sequence[float], clusters: Sequence[Hashable]) -> Interval:
    """Return the interval of the mean over rows, clusters resampled; there is at least one row."""
    pairs = np.array([(value, 1.0) for value in values])
    drawn = resample(cluster_sums(clusters, pairs))
    return interval(drawn[:, 0] / drawn[:, 1])
