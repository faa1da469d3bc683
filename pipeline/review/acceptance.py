"""Which images need not be seen: a threshold with a bound that holds, and the audit's veto.

An image is a success or an error as a whole: it is *wrong* when one of its masks has an IoU below
the bar. The threshold is chosen by testing a fixed sequence of thresholds, from the highest down,
each for "more than ``error`` of the images over it are wrong", until one is not rejected; the last
rejected one is taken. The whole search errs with a probability of at most 1 - ``confidence``
(fixed-sequence testing, in Angelopoulos, Bates, Candes, Jordan and Lei 2021, "Learn then test").
Each test is the exact binomial one, that of Clopper and Pearson 1934.

The audit looks again whenever corrections arrive, so its test has to hold at any time: a mixture of
likelihood ratios is a martingale under "no more than ``error``" and rarely grows (Ville 1939,
Robbins 1970, "Statistical methods related to the law of the iterated logarithm").
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaln
from scipy.stats import beta, binom

GRID = tuple(percent / 100 for percent in range(99, 29, -1))


@dataclass(frozen=True, slots=True)
class Judged:
    """An image that people have judged as a whole: its lowest expected IoU, and the truth."""

    expected_iou: float
    wrong: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """A threshold, and what it was concluded from: ``wrong`` of ``images`` over it."""

    threshold: float
    images: int
    wrong: int
    bound: float


def fewest_images(error: float, confidence: float) -> int:
    """Return how many images without a wrong one are needed to conclude anything."""
    return math.ceil(math.log(1 - confidence) / math.log(1 - error))


def sequence(fitted: Sequence[Judged], sample: int, error: float, confidence: float) -> list[float]:
    """Return the thresholds to test, in order. Must not depend on the images of the test.

    It starts where the first test is most likely to succeed, judging by other images.

    Args:
        fitted: images that are not part of the test; those that fitted the expected IoU may be.
        sample: how many images the test has.
        error: the share of wrong images to stay below.
        confidence: of the conclusion.
    """
    scores = np.array([image.expected_iou for image in fitted])
    wrong = np.array([image.wrong for image in fitted], dtype=bool)
    over = scores[None, :] >= np.array(GRID)[:, None]
    count = np.round(sample * over.mean(axis=1))
    allowed = binom.ppf(1 - confidence, count, error) - 1
    rate = ((over & wrong).sum(axis=1) + 0.5) / (over.sum(axis=1) + 1)
    chances = binom.cdf(allowed, count, rate)
    return list(GRID[int(np.argmax(chances)) :])


def choose(
    thresholds: Sequence[float], images: Sequence[Judged], error: float, confidence: float
) -> Choice | None:
    """Return the lowest threshold that the tests allow, None if they allow none.

    Of thresholds with the same images over them it is the highest: all allowed ones hold together,
    and nothing is known of scores that no image has.

    Args:
        thresholds: from the highest down, as :func:`sequence` makes them.
        images: a random sample of the images, none of which has fitted the expected IoU.
        error: the share of wrong images over the threshold to stay below.
        confidence: one minus the chance that the share is larger all the same.
    """
    scores = np.array([image.expected_iou for image in images])
    wrong = np.array([image.wrong for image in images], dtype=bool)
    allowed = None
    for threshold in thresholds:
        over = scores >= threshold
        count, errors = int(over.sum()), int(wrong[over].sum())
        if binom.cdf(errors, count, error) > 1 - confidence:
            break
        if allowed is None or count > allowed.images:
            allowed = Choice(threshold, count, errors, upper_bound(errors, count, confidence))
    return allowed


def upper_bound(wrong: int, images: int, confidence: float) -> float:
    """Return Clopper and Pearson's one-sided upper bound of a share."""
    if wrong >= images:
        return 1.0
    return float(beta.ppf(confidence, wrong + 1, images - wrong))


def evidence(wrong: int, images: int, error: float) -> float:
    """Return how strongly an audit contradicts "at most ``error`` of the images are wrong".

    The chance that it ever reaches 1 / a, however often one looks, is at most a. It is the mean
    likelihood of the shares over ``error``, all alike, against that of ``error``.
    """
    right = images - wrong
    above = beta.logsf(error, wrong + 1, right + 1) + betaln(wrong + 1, right + 1)
    at = wrong * math.log(error) + right * math.log1p(-error)
    return float(np.exp(min(above - math.log1p(-error) - at, 700.0)))


def contradicts(wrong: int, images: int, error: float, confidence: float) -> bool:
    """Return whether an audit turns the rule off."""
    return evidence(wrong, images, error) >= 1 / (1 - confidence)
