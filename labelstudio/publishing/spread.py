"""Which few of a mask's points to show: the most telling one, then always the farthest."""

from collections.abc import Sequence

import numpy as np

from pipeline.records import Point


def shown_points(points: Sequence[Point], per_sign: int) -> list[int]:
    """Return the places in ``points`` of those to show, at most ``per_sign`` of each sign.

    Inside points start at the most similar, outside points at the least similar; each next one
    is the farthest from all that are chosen. Points labelled -1 and repeated places are left out.
    """
    inside = _spread(points, [i for i, point in enumerate(points) if point.label == 1], 1, per_sign)
    outside = _spread(
        points, [i for i, point in enumerate(points) if point.label == 0], -1, per_sign
    )
    return inside + outside


def _spread(points: Sequence[Point], among: list[int], sign: int, count: int) -> list[int]:
    if not among or not count:
        return []
    places = np.array([(points[i].x, points[i].y) for i in among], dtype=np.float64)
    chosen = [int(np.argmax([sign * points[i].similarity for i in among]))]
    distance = np.hypot(*(places - places[chosen[0]]).T)
    while len(chosen) < count and distance.max() > 0:
        farthest = int(distance.argmax())
        chosen.append(farthest)
        distance = np.minimum(distance, np.hypot(*(places - places[farthest]).T))
    return [among[i] for i in chosen]
