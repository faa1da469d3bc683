"""The rule over many simulated reviews: its bound holds, and the audit's veto is rarely wrong."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import binom

from pipeline.review.acceptance import (
    Judged,
    choose,
    contradicts,
    evidence,
    fewest_images,
    sequence,
    upper_bound,
)

ERROR, CONFIDENCE = 0.05, 0.95
DRAWS = 400


def chance_of_error(scores: np.ndarray) -> np.ndarray:
    """The truth of the simulation: an image of expected IoU s is wrong with (1 - s) / 2."""
    return (1 - scores) / 2


def true_risk(threshold: float) -> float:
    """The share of wrong images over a threshold when scores are even in [0, 1]."""
    return float(chance_of_error(np.array([(1 + threshold) / 2]))[0])


def draw(random: np.random.Generator, count: int) -> list[Judged]:
    scores = random.random(count)
    wrong = random.random(count) < chance_of_error(scores)
    return [Judged(float(score), bool(bad)) for score, bad in zip(scores, wrong, strict=True)]


def greedy(images: Sequence[Judged]) -> float | None:
    """What one must not do: the lowest threshold whose observed share is low enough."""
    scores = np.array([image.expected_iou for image in images])
    wrong = np.array([image.wrong for image in images])
    allowed = [
        place / 100
        for place in range(30, 100)
        if (scores >= place / 100).any() and wrong[scores >= place / 100].mean() <= ERROR
    ]
    return min(allowed) if allowed else None


def test_the_bound_holds_in_as_many_reviews_as_it_says() -> None:
    random = np.random.default_rng(1)
    broken, naive, found = 0, 0, 0
    for _ in range(DRAWS):
        thresholds = sequence(draw(random, 500), 2000, ERROR, CONFIDENCE)
        images = draw(random, 2000)
        choice = choose(thresholds, images, ERROR, CONFIDENCE)
        found += choice is not None
        broken += choice is not None and true_risk(choice.threshold) > ERROR
        observed = greedy(images)
        naive += observed is not None and true_risk(observed) > ERROR
    assert found > 0.25 * DRAWS
    assert broken <= binom.ppf(0.999, DRAWS, 1 - CONFIDENCE)
    assert naive > 0.3 * DRAWS


def test_nothing_is_accepted_when_every_threshold_is_too_risky() -> None:
    random = np.random.default_rng(2)
    wrongly = 0
    for _ in range(DRAWS):
        scores = random.random(500)
        wrong = random.random(500) < 1.01 * ERROR
        images = [Judged(float(s), bool(w)) for s, w in zip(scores, wrong, strict=True)]
        thresholds = sequence(draw(random, 300), 500, ERROR, CONFIDENCE)
        wrongly += choose(thresholds, images, ERROR, CONFIDENCE) is not None
    assert wrongly <= binom.ppf(0.999, DRAWS, 1 - CONFIDENCE)


def test_too_few_images_conclude_nothing_and_just_enough_do() -> None:
    assert fewest_images(ERROR, CONFIDENCE) == 59
    good = [Judged(0.95, wrong=False)] * 59
    assert choose([0.9], good[:58], ERROR, CONFIDENCE) is None
    choice = choose([0.9], good, ERROR, CONFIDENCE)
    assert choice is not None
    assert (choice.images, choice.wrong) == (59, 0)
    assert choice.bound == pytest.approx(1 - 0.05 ** (1 / 59))
    assert choose([0.96, 0.9], good, ERROR, CONFIDENCE) is None


def test_the_upper_bound_is_the_published_one() -> None:
    assert upper_bound(2, 100, 0.95) == pytest.approx(0.0616, abs=1e-4)
    assert binom.cdf(2, 100, upper_bound(2, 100, 0.95)) == pytest.approx(0.05)
    assert upper_bound(0, 0, 0.95) == 1.0


def test_an_audit_that_is_looked_at_all_the_time_seldom_stops_a_rule_that_holds() -> None:
    random = np.random.default_rng(3)
    stopped = sum(
        any(
            contradicts(int(wrong), images, ERROR, CONFIDENCE)
            for images, wrong in enumerate(np.cumsum(random.random(200) < ERROR), start=1)
        )
        for _ in range(200)
    )
    assert stopped <= binom.ppf(0.999, 200, 1 - CONFIDENCE)


def test_an_audit_stops_a_rule_that_does_not_hold() -> None:
    random = np.random.default_rng(4)
    after = []
    for _ in range(100):
        wrong = np.cumsum(random.random(400) < 4 * ERROR)
        hits = (n for n, k in enumerate(wrong, 1) if contradicts(int(k), n, ERROR, CONFIDENCE))
        after.append(next(hits, 401))
    assert np.median(after) < 60
    assert np.mean(np.array(after) <= 200) > 0.95


def test_evidence_is_the_mean_likelihood_ratio() -> None:
    shares = np.linspace(ERROR, 1, 200_001)
    ratios = binom.pmf(4, 20, shares) / binom.pmf(4, 20, ERROR)
    assert evidence(4, 20, ERROR) == pytest.approx(np.trapezoid(ratios, shares) / (1 - ERROR))
    assert evidence(0, 0, ERROR) == pytest.approx(1.0)


def test_a_threshold_is_not_lowered_to_where_nothing_was_seen() -> None:
    good = [Judged(0.9, wrong=False)] * 80
    bad = [Judged(0.2, wrong=True)] * 80
    choice = choose([0.95, 0.9, 0.5, 0.3, 0.1], good + bad, ERROR, CONFIDENCE)
    assert choice is None  # the first test has no image
    choice = choose([0.9, 0.5, 0.3, 0.1], good + bad, ERROR, CONFIDENCE)
    assert choice is not None
    assert choice.threshold == 0.9
