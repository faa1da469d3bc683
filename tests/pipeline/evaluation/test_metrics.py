"""Figures and intervals against what is counted by hand."""

import numpy as np
import pytest

from pipeline.evaluation.metrics import Score, figures


def score(image: object, intersection: int, union: int, *, present: bool = True) -> Score:
    found = bool(union and intersection) if present else bool(union)
    return Score(
        image_id=str(image),
        present=present,
        found=found,
        intersection=intersection,
        union=union,
        denied=not found,
        correction_due=False,
        corrected=False,
    )


def test_the_mean_is_over_queries_and_the_sums_over_pixels() -> None:
    measured = figures([score(1, 10, 20), score(1, 0, 5), score(2, 90, 100)])
    assert measured.giou == pytest.approx((0.5 + 0 + 0.9) / 3)
    assert measured.ciou == pytest.approx(100 / 125)
    assert measured.see_accuracy == pytest.approx(2 / 3)
    assert measured.denied_absent is None
    assert measured.corrected_absent is None


def test_an_empty_answer_to_an_empty_truth_is_right() -> None:
    measured = figures([score(1, 0, 0, present=False), score(2, 0, 0, present=False)])
    assert (measured.giou, measured.ciou, measured.see_accuracy) == (1, 1, 1)
    assert (measured.giou_present, measured.ciou_present) == (None, None)
    assert measured.giou_ci == (1, 1)


def test_intervals_come_from_images_not_from_queries() -> None:
    alternating = [score(n, 100 * (n % 2), 100) for n in range(100)]
    low, high = figures(alternating).giou_ci
    assert (low, high) == (pytest.approx(0.402, abs=0.02), pytest.approx(0.598, abs=0.02))
    doubled = figures([one for one in alternating for _ in range(4)])
    assert doubled.giou_ci == pytest.approx((low, high))
    assert doubled.queries == 400
    assert doubled.images == 100


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    inside = 0
    for _ in range(40):
        drawn = random.random(60) < 0.7
        low, high = figures([score(n, int(hit), 1) for n, hit in enumerate(drawn)]).giou_ci
        inside += low <= 0.7 <= high
    assert inside >= 34


def test_the_same_scores_give_the_same_interval() -> None:
    scores = [score(n, n, 50) for n in range(50)]
    assert figures(scores) == figures(scores)
    assert figures(scores).ciou_ci == pytest.approx(figures(scores).giou_ci)
