"""Outlines: what they cover, and where."""

import numpy as np
import pytest

from workers.scenes.shapes import SHAPES, coverage, radius, unit_area


@pytest.mark.parametrize("shape", SHAPES)
def test_the_area_grows_with_the_square_of_the_scale(shape: str) -> None:
    covered = coverage(shape, (200, 240), (120.0, 100.0), 40.0, 0.0).sum()
    assert covered == pytest.approx(unit_area(shape) * 40.0**2, rel=0.03)


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_is_drawn_beyond_the_radius(shape: str) -> None:
    rows, columns = coverage(shape, (200, 200), (100.0, 100.0), 50.0, 33.0).nonzero()
    assert np.hypot(rows - 99.5, columns - 99.5).max() <= 50.0 * radius(shape) + 1.5


def test_a_circle_has_the_area_of_a_circle() -> None:
    assert unit_area("circle") == pytest.approx(np.pi, rel=0.01)


def test_a_ring_has_a_hole() -> None:
    cover = coverage("ring", (100, 100), (50.0, 50.0), 40.0, 0.0)
    assert cover[50, 50] == 0
    assert cover[50, 50 + 32] == 1


def test_an_object_half_outside_is_cut_at_the_border() -> None:
    whole = coverage("square", (100, 100), (50.0, 50.0), 30.0, 0.0).sum()
    half = coverage("square", (100, 100), (0.0, 50.0), 30.0, 0.0).sum()
    assert half == pytest.approx(whole / 2, rel=0.02)


def test_the_angle_turns_clockwise_on_the_screen() -> None:
    cover = coverage("arrow", (100, 100), (50.0, 50.0), 40.0, 90.0)  # it points right, then down
    assert cover.sum(axis=1).argmax() > 50  # its widest row, the head's, is below the middle
