"""Truth as the published sets write it: labeled polygons, COCO segmentations, and no object."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from pipeline import masks
from pipeline.errors import InputError
from pipeline.evaluation.samples import Mask, Regions
from pipeline.records import Rle

TARGET, IGNORED = 1, 255
_FEWEST_COORDINATES = 6


@dataclass(frozen=True, slots=True)
class NoObject:
    """There is no such object: an empty mask."""

    def regions(self, height: int, width: int) -> Regions:
        """Return two empty masks."""
        return Regions(np.zeros((height, width), bool), np.zeros((height, width), bool))


@dataclass(frozen=True, slots=True)
class Polygon:
    """One outline: ``points`` (x, y) in pixels, and what the annotator called it."""

    label: str
    points: tuple[tuple[float, float], ...]

    @property
    def value(self) -> int:
        """What its pixels become."""
        return IGNORED if "ignore" in self.label.lower() else TARGET

    @property
    def deprecated(self) -> bool:
        """Whether it means nothing: such polygons were left in the files."""
        return self.label.lower() == "flag"


@dataclass(frozen=True, slots=True)
class PolygonTruth:
    """ReasonSeg's truth: polygons drawn over each other, the largest first.

    Coordinates lose their fraction, outlines belong to their polygon, and of equally large ones
    the earlier is drawn last (LISA, ``utils/data_processing.py``, which defined the format).
    """

    polygons: tuple[Polygon, ...]

    def regions(self, height: int, width: int) -> Regions:
        """Draw all polygons on a canvas of that size."""
        canvas = np.zeros((height, width), np.uint8)
        drawn = [polygon for polygon in self.polygons if not polygon.deprecated]
        areas = [int(_draw(np.zeros_like(canvas), polygon, 1).sum()) for polygon in drawn]
        for place in np.argsort(areas, kind="stable")[::-1]:
            _draw(canvas, drawn[place], drawn[place].value)
        return Regions(canvas == TARGET, canvas == IGNORED)


@dataclass(frozen=True, slots=True)
class CocoTruth:
    """A segmentation of ``instances.json`` with the size of its image in pixels.

    ``segmentation`` holds polygons (``[x, y, x, y, …]`` each), one run-length mask, or a list of
    them; several parts are united. ``name`` is for messages.
    """

    name: str
    height: int
    width: int
    segmentation: object

    def regions(self, height: int, width: int) -> Regions:
        """Return the union of all parts; nothing is ignored."""
        if (height, width) != (self.height, self.width):
            raise InputError(
                f"{self.name}: instances.json says {self.width}x{self.height} pixels, the picture "
                f"has {width}x{height}; use the pictures that belong to the set"
            )
        try:
            target = self._target()
        except (ValueError, TypeError, KeyError, UnicodeError) as error:
            raise InputError(f"{self.name}: its segmentation cannot be drawn: {error}") from error
        return Regions(target, np.zeros_like(target))

    def _target(self) -> Mask:
        parts = self.segmentation if isinstance(self.segmentation, list) else [self.segmentation]
        target = np.zeros((self.height, self.width), bool)
        for part in parts:
            target |= masks.decode(self._rle(part))
        return target

    def _rle(self, part: object) -> Rle:
        if isinstance(part, dict):
            return self._runs(part)
        if not isinstance(part, list) or len(part) < _FEWEST_COORDINATES or len(part) % 2:
            raise ValueError("a polygon has at least three points, x and y each")
        (packed,) = coco.frPyObjects([part], self.height, self.width)
        return Rle(self.height, self.width, packed["counts"].decode("ascii"))

    def _runs(self, part: dict[str, object]) -> Rle:
        if part["size"] != [self.height, self.width]:
            raise ValueError(f"run lengths are for an image of {part['size']}")
        counts = part["counts"]
        if isinstance(counts, list):
            counts = coco.frPyObjects(part, self.height, self.width)["counts"]
        if isinstance(counts, bytes):
            counts = counts.decode("ascii")
        if not isinstance(counts, str):
            raise TypeError("run lengths are a list or a string")
        return Rle(self.height, self.width, counts)


def _draw(canvas: NDArray[np.uint8], polygon: Polygon, value: int) -> NDArray[np.uint8]:
    points = [np.array(polygon.points).astype(np.int32)]
    cv2.polylines(canvas, points, isClosed=True, color=value, thickness=1)
    cv2.fillPoly(canvas, points, value)
    return canvas
