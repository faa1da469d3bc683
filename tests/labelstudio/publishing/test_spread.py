"""The few points that are shown."""

import pytest

from labelstudio.publishing.spread import shown_points
from pipeline.records import Point

LINE = [Point(float(x), 0.0, 1, 1 - x / 100) for x in (0, 1, 2, 50, 99, 100)]


def test_the_most_similar_comes_first_then_the_farthest() -> None:
    assert shown_points(LINE, 3) == [0, 5, 3]


def test_outside_points_start_at_the_least_similar() -> None:
    outside = [Point(p.x, p.y, 0, p.similarity) for p in LINE]
    assert shown_points(outside, 2) == [5, 0]


def test_inside_comes_before_outside_and_neither_is_left_out() -> None:
    mixed = [Point(0, 0, 0, 0.1), Point(1, 1, -1, 0.5), Point(2, 2, 1, 0.9)]
    assert shown_points(mixed, 4) == [2, 0]


@pytest.mark.parametrize("per_sign", [0, 1, 4])
def test_never_more_than_asked_and_no_place_twice(per_sign: int) -> None:
    same = [Point(5, 5, 1, 0.5)] * 6
    assert len(shown_points(same, per_sign)) == min(per_sign, 1)
    assert len(shown_points(LINE, per_sign)) == per_sign


def test_no_points_are_no_points() -> None:
    assert shown_points([], 4) == []
