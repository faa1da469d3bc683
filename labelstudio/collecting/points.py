"""What became of the points that a person was shown: kept, moved, added, removed or flipped."""

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from labelstudio.collecting.annotation import AnnotationError, Region
from labelstudio.interface import negative, positive
from labelstudio.publishing.payload import region_id
from pipeline.records import CorrectedPoint, Point, PointFate, PointLabel, Prediction

KEPT_WITHIN = 0.05
"""Pixels by which a point that nobody moved may differ, from its way through percent."""


def point_regions(row: Prediction, regions: Sequence[Region]) -> list[tuple[Region, PointLabel]]:
    """Return the point regions of a query with their signs."""
    names: Mapping[str, PointLabel] = {positive(row.label): 1, negative(row.label): 0}
    return [
        (region, names[name])
        for region in regions
        if region.get("type") == "keypointlabels"
        for name in region["value"].get("keypointlabels", ())
        if name in names
    ]


def places_by_id(row: Prediction) -> dict[str, int]:
    """Return the place among the prediction's points of each region id that one may have."""
    return {region_id(row.key, f"point {place}"): place for place in range(len(row.points))}


def corrected_points(
    row: Prediction, regions: Sequence[Region], shown: AbstractSet[int]
) -> tuple[CorrectedPoint, ...]:
    """Return what became of a query's points, removed ones last.

    Args:
        row: the prediction that the work began at.
        regions: of the annotation.
        shown: places in ``row.points`` of the points that the person saw; no other can have been
            removed.

    Raises:
        AnnotationError: a point has no place in the picture.
    """
    places = places_by_id(row)
    made, left = [], set()
    for region, sign in point_regions(row, regions):
        x, y = _pixels(region, row)
        place = places.get(str(region.get("id")))
        if place is None:
            made.append(CorrectedPoint(x, y, sign, "added", x, y))
        elif place not in left:
            left.add(place)
            made.append(_compared(row.points[place], x, y, sign))
    removed = (row.points[place] for place in sorted(shown - left))
    return (*made, *(_as_predicted(point, point.label, "removed") for point in removed))


def _compared(point: Point, x: float, y: float, sign: PointLabel) -> CorrectedPoint:
    stayed = abs(x - point.x) <= KEPT_WITHIN and abs(y - point.y) <= KEPT_WITHIN
    if sign == point.label and stayed:
        return _as_predicted(point, sign, "kept")
    fate: PointFate = "moved" if sign == point.label else "flipped"
    if stayed:
        return _as_predicted(point, sign, fate)
    return CorrectedPoint(x, y, sign, fate, point.x, point.y)


def _as_predicted(point: Point, label: PointLabel, fate: PointFate) -> CorrectedPoint:
    return CorrectedPoint(point.x, point.y, label, fate, point.x, point.y)


def _pixels(region: Region, row: Prediction) -> tuple[float, float]:
    try:
        x, y = float(region["value"]["x"]), float(region["value"]["y"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise AnnotationError(f"the point {region.get('id')} has no place") from error
    if not (math.isfinite(x) and math.isfinite(y)):
        raise AnnotationError(f"the point {region.get('id')} has no place")
    return _percent(x) * row.width / 100, _percent(y) * row.height / 100


def _percent(value: float) -> float:
    """Return a place in the picture; one that was dragged past its edge lies on it."""
    return min(max(value, 0.0), 100.0)
