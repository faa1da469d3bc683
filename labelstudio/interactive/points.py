"""Which points a query has now: those that travelled, those that did not, and those not shown.

Only a few of a prediction's points are on the screen, and only those of one sign travel with a
gesture. A point that is not shown stands or falls with the shown one of its sign that is nearest
to it: while that is where the model had put it, so is the hidden one; when a person has moved,
removed or flipped it, the hidden ones near it go too. So an untouched query has exactly the points
of its prediction, and nothing invisible contradicts what a person did.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelstudio.interactive.request import PointRegion
from labelstudio.publishing.payload import region_id
from labelstudio.publishing.spread import shown_points
from pipeline.records import Point, PointLabel, Prediction

SAME_PIXELS = 1e-3
"""A point nearer than this to where it was predicted has not been moved."""


@dataclass(frozen=True, slots=True)
class QueryPoints:
    """What the decoder is given.

    ``kept`` are places in the prediction's points; ``placed`` are a person's, (x, y) in pixels of
    the image and the sign.
    """

    kept: tuple[int, ...]
    placed: tuple[tuple[float, float, PointLabel], ...]


def query_points(row: Prediction, current: Sequence[PointRegion], per_sign: int) -> QueryPoints:
    """Return the points of a query whose points on the screen are ``current``.

    Args:
        row: the prediction that the task shows.
        current: its points of both signs as they are now.
        per_sign: how many points of a sign the task was made to show.
    """
    shown = {region_id(row.key, f"point {i}"): i for i in shown_points(row.points, per_sign)}
    held: set[int] = set()
    placed: list[tuple[float, float, PointLabel]] = []
    for region in current:
        x, y = region.x * row.width / 100, region.y * row.height / 100
        place = shown.get(region.id)
        if place is not None and _untouched(row.points[place], x, y, region.sign):
            held.add(place)
        else:
            placed.append((x, y, region.sign))
    leaders = _leaders(row.points, list(shown.values()))
    kept = tuple(i for i, leader in enumerate(leaders) if leader is None or leader in held)
    return QueryPoints(kept, tuple(placed))


def _untouched(point: Point, x: float, y: float, sign: PointLabel) -> bool:
    return point.label == sign and abs(point.x - x) < SAME_PIXELS and abs(point.y - y) < SAME_PIXELS


def _leaders(points: Sequence[Point], shown: Sequence[int]) -> list[int | None]:
    """Return for each point the shown one that it follows; None if nothing of its sign is shown."""
    leaders: list[int | None] = []
    for point in points:
        same = [place for place in shown if points[place].label == point.label]
        distances = [np.hypot(points[i].x - point.x, points[i].y - point.y) for i in same]
        leaders.append(same[int(np.argmin(distances))] if same else None)
    return leaders
