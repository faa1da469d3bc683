"""Calibration errors on cases that can be worked out by hand, and their intervals."""

import numpy as np
import pytest

from pipeline.review.reliability import reliability


def test_the_errors_of_a_case_worked_out_by_hand() -> None:
    expected = np.array([0.2, 0.2, 0.9, 0.9])
    observed = np.array([0.1, 0.5, 0.8, 0.6])
    found = reliability(expected, observed, ["a", "b", "c", "d"])
    assert [(b.expected, b.observed, b.rows) for b in found.curve] == [
        (pytest.approx(0.2), pytest.approx(0.3), 2),
        (pytest.approx(0.9), pytest.approx(0.7), 2),
    ]
    assert found.ece == pytest.approx(0.5 * 0.1 + 0.5 * 0.2)
    assert found.mae == pytest.approx((0.1 + 0.3 + 0.1 + 0.3) / 4)
    assert found.bias == pytest.approx((0.1 - 0.3 + 0.1 + 0.3) / 4)
    assert (found.rows, found.units) == (4, 4)


def test_bins_hold_about_equally_many_rows() -> None:
    values = np.linspace(0, 1, 100)
    found = reliability(values, values, [str(n) for n in range(100)])
    assert [piece.rows for piece in found.curve] == [10] * 10
    assert found.ece == pytest.approx(0)


def test_copies_of_an_image_do_not_make_the_error_surer() -> None:
    random = np.random.default_rng(0)
    observed = random.random(40)
    expected = np.full(40, 0.5)
    names = [str(n) for n in range(40)]
    once = reliability(expected, observed, names)
    often = reliability(np.repeat(expected, 9), np.repeat(observed, 9), list(np.repeat(names, 9)))
    assert often.mae_ci == pytest.approx(once.mae_ci)
    assert once.mae_ci[0] < once.mae < once.mae_ci[1]


def test_intervals_hold_the_truth_in_most_draws() -> None:
    random = np.random.default_rng(1)
    held = 0
    for _ in range(100):
        gaps = random.normal(0.1, 0.2, 80)
        found = reliability(np.full(80, 0.5), 0.5 - gaps, [str(n) for n in range(80)])
        held += found.bias_ci[0] <= 0.1 <= found.bias_ci[1]
    assert held >= 87
