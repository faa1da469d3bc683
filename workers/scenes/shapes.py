"""Outlines of the shapes and silhouettes, and their coverage masks.

An outline is a list of (polygon, value) drawn one over the other: value 1 fills, value 0 cuts a
hole. Polygons are float (points, 2) with x to the right and y down, inside the unit circle or
little beyond it.
"""

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Outline = tuple[tuple[Points, int], ...]

_FRACTION_BITS = 6  # of the fixed-point coordinates that OpenCV fills polygons with
_OVERSAMPLING = 3  # pixels a side that one mask pixel is averaged from


def _polygon(*points: tuple[float, float]) -> Points:
    return np.array(points, dtype=np.float64)


def _ellipse(x: float, y: float, width: float, height: float) -> Points:
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    return np.stack([x + width * np.cos(turn), y + height * np.sin(turn)], axis=1)


def _box(left: float, top: float, right: float, bottom: float) -> Points:
    return _polygon((left, top), (right, top), (right, bottom), (left, bottom))


def _circle() -> Outline:
    return ((_ellipse(0, 0, 1, 1), 1),)


def _square() -> Outline:
    return ((_box(-0.8, -0.8, 0.8, 0.8), 1),)


def _triangle() -> Outline:
    return ((_polygon((0, -0.95), (0.95, 0.75), (-0.95, 0.75)), 1),)


def _star() -> Outline:
    turn = np.arange(10) * np.pi / 5 - np.pi / 2
    radius = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)
    return ((np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1), 1),)


def _heart() -> Outline:
    turn = np.linspace(0, 2 * np.pi, 80, endpoint=False)
    x = 16 * np.sin(turn) ** 3
    y = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
    return ((np.stack([x, -y - 2.0], axis=1) / 16.0, 1),)


def _cross() -> Outline:
    return ((_box(-0.32, -0.95, 0.32, 0.95), 1), (_box(-0.95, -0.32, 0.95, 0.32), 1))


def _ring() -> Outline:
    return ((_ellipse(0, 0, 1, 1), 1), (_ellipse(0, 0, 0.52, 0.52), 0))


def _moon() -> Outline:
    return ((_ellipse(0, 0, 1, 1), 1), (_ellipse(0.5, 0, 0.85, 0.85), 0))


def _diamond() -> Outline:
    return ((_polygon((0, -1), (0.65, 0), (0, 1), (-0.65, 0)), 1),)


def _arrow() -> Outline:
    head = _polygon((0.1, -0.7), (1, 0), (0.1, 0.7))
    return ((head, 1), (_box(-0.95, -0.28, 0.15, 0.28), 1))


def _house() -> Outline:
    return (
        (_box(-0.7, -0.1, 0.7, 0.85), 1),
        (_polygon((-0.95, -0.1), (0, -0.95), (0.95, -0.1)), 1),
        (_box(-0.18, 0.3, 0.18, 0.85), 0),
    )


def _tree() -> Outline:
    return (
        (_box(-0.16, 0.4, 0.16, 1.0), 1),
        (_polygon((0, -1.0), (0.5, -0.25), (-0.5, -0.25)), 1),
        (_polygon((0, -0.65), (0.65, 0.15), (-0.65, 0.15)), 1),
        (_polygon((0, -0.25), (0.8, 0.55), (-0.8, 0.55)), 1),
    )


def _fish() -> Outline:
    return (
        (_ellipse(0.2, 0, 0.75, 0.45), 1),
        (_polygon((-0.4, 0), (-1.0, -0.5), (-0.85, 0), (-1.0, 0.5)), 1),
        (_ellipse(0.6, -0.1, 0.08, 0.08), 0),
    )


def _car() -> Outline:
    return (
        (_box(-1.0, -0.1, 1.0, 0.35), 1),
        (_polygon((-0.65, -0.1), (-0.4, -0.5), (0.35, -0.5), (0.65, -0.1)), 1),
        (_ellipse(-0.55, 0.38, 0.24, 0.24), 1),
        (_ellipse(0.55, 0.38, 0.24, 0.24), 1),
    )


def _cup() -> Outline:
    return (
        (_ellipse(0.5, -0.05, 0.42, 0.42), 1),
        (_ellipse(0.5, -0.05, 0.22, 0.24), 0),
        (_polygon((-0.8, -0.75), (0.55, -0.75), (0.42, 0.75), (-0.67, 0.75)), 1),
    )


def _bottle() -> Outline:
    shoulder = _polygon((-0.16, -0.45), (0.16, -0.45), (0.38, -0.1), (-0.38, -0.1))
    return ((_box(-0.16, -1, 0.16, -0.4), 1), (shoulder, 1), (_box(-0.38, -0.1, 0.38, 1), 1))


def _boat() -> Outline:
    return (
        (_polygon((-0.95, 0.3), (0.95, 0.3), (0.6, 0.8), (-0.6, 0.8)), 1),
        (_polygon((0.02, -0.95), (0.75, 0.15), (0.02, 0.15)), 1),
        (_polygon((-0.08, -0.7), (-0.08, 0.15), (-0.6, 0.15)), 1),
        (_box(-0.08, -0.95, 0.02, 0.35), 1),
    )


def _mushroom() -> Outline:
    return (
        (_ellipse(0, -0.05, 0.95, 0.8), 1),
        (_box(-1, -0.05, 1, 1), 0),
        (_polygon((-0.25, -0.06), (0.25, -0.06), (0.32, 0.85), (-0.32, 0.85)), 1),
    )


def _key() -> Outline:
    return (
        (_ellipse(-0.6, 0, 0.38, 0.38), 1),
        (_ellipse(-0.6, 0, 0.17, 0.17), 0),
        (_box(-0.25, -0.1, 1.0, 0.1), 1),
        (_box(0.5, 0.05, 0.65, 0.38), 1),
        (_box(0.82, 0.05, 0.97, 0.38), 1),
    )


_OUTLINES: dict[str, Callable[[], Outline]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "cross": _cross,
    "ring": _ring,
    "moon": _moon,
    "diamond": _diamond,
    "arrow": _arrow,
    "house": _house,
    "tree": _tree,
    "fish": _fish,
    "car": _car,
    "cup": _cup,
    "bottle": _bottle,
    "boat": _boat,
    "mushroom": _mushroom,
    "key": _key,
}
SHAPES = tuple(_OUTLINES)


@cache
def outline(shape: str) -> Outline:
    """Return the outline of a shape by its name (a KeyError when there is none)."""
    return _OUTLINES[shape]()


@cache
def radius(shape: str) -> float:
    """Return the largest distance of an outline's point from its center, in its own units."""
    return max(float(np.hypot(*points.T).max()) for points, _ in outline(shape))


@cache
def unit_area(shape: str) -> float:
    """Return the area of a shape's outline in its own units, from a raster of 512 pixels."""
    side, scale = 512, 220.0
    return float(coverage(shape, (side, side), (side / 2, side / 2), scale, 0.0).sum() / scale**2)


def coverage(
    shape: str,
    size: tuple[int, int],
    center: tuple[float, float],
    scale: float,
    angle: float,
) -> NDArray[np.float32]:
    """Return how much of each pixel the shape covers, float32 (H, W) in [0, 1].

    ``size`` is (H, W), ``center`` (x, y) and ``scale`` are in pixels, ``angle`` is in degrees.
    """
    height, width = size
    reach = scale * radius(shape) + 2
    left, top = (max(0, int(value - reach)) for value in center)
    right, bottom = min(width, int(center[0] + reach) + 1), min(height, int(center[1] + reach) + 1)
    result = np.zeros(size, dtype=np.float32)
    if right > left and bottom > top:
        patch = np.zeros(((bottom - top) * _OVERSAMPLING, (right - left) * _OVERSAMPLING), np.uint8)
        turn = np.deg2rad(angle)
        spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        for points, value in outline(shape):
            placed = points @ spin * scale + np.array(center) - (left, top)
            fixed = np.rint((placed * _OVERSAMPLING - 0.5) * 2**_FRACTION_BITS).astype(np.int32)
            cv2.fillPoly(patch, [fixed], 255 * value, lineType=cv2.LINE_8, shift=_FRACTION_BITS)
        small = cv2.resize(patch, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
        result[top:bottom, left:right] = small.astype(np.float32) / 255.0
    return result
