"""The boundary F measure on shapes whose value can be said in advance."""

import numpy as np
import pytest

from pipeline.boundary import boundary_f, tolerance_pixels


def square(left: int, side: int = 100) -> np.ndarray:
    mask = np.zeros((300, 400), np.bool_)
    mask[100 : 100 + side, left : left + side] = True
    return mask


def test_equal_masks_agree_and_empty_ones_too() -> None:
    empty = square(0, 0)
    assert boundary_f(square(50), square(50)) == 1
    assert boundary_f(empty, empty) == 1


def test_one_empty_mask_is_as_wrong_as_can_be() -> None:
    full = np.ones((300, 400), np.bool_)
    for mask in (square(50), full):
        assert boundary_f(mask, square(0, 0)) == boundary_f(square(0, 0), mask) == 0


def test_the_tolerance_is_that_of_davis() -> None:
    assert tolerance_pixels(480, 640) == 7
    assert tolerance_pixels(300, 400) == 4
    assert boundary_f(square(50), square(54)) == 1
    assert 0.4 < boundary_f(square(50), square(56)) < 0.6


def test_far_masks_share_no_boundary() -> None:
    assert boundary_f(square(50), square(250)) == 0


def test_precision_and_recall_are_balanced() -> None:
    both = square(50) | square(250)
    assert boundary_f(both, square(50)) == pytest.approx(2 / 3, abs=0.01)
    assert boundary_f(square(50), both) == boundary_f(both, square(50))


def test_masks_of_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="no common pixels"):
        boundary_f(square(50), square(50)[:-1])
