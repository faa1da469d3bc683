"""Masks as polygons, polygons as masks, and what is lost on the way.

Outlines run a quarter of a pixel inside of the pixels' edges. So both usual ways to fill them give
the mask back: pycocotools, which tests centers of pixels, and ``cv2.fillPoly`` on coordinates cut
to integers. A polygon has no holes: those of a mask are filled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from pipeline import masks
from pipeline.records import Rle

Polygon = NDArray[np.float64]
_TWICE = 2
_LEAST_CORNERS = 3


@dataclass
class Loss:
    """How the polygons' masks differ from the real ones.

    ``iou_sum`` and ``iou_least`` are over ``masks``; ``holed`` of them had holes, which took
    ``hole_pixels`` in all.
    """

    masks: int = 0
    iou_sum: float = 0.0
    iou_least: float = 1.0
    holed: int = 0
    hole_pixels: int = 0

    def to_json(self) -> dict[str, float | None]:
        """Return the counts, and the mean and least IoU (None without a mask)."""
        return {
            "masks": self.masks,
            "iou_mean": round(self.iou_sum / self.masks, 6) if self.masks else None,
            "iou_least": round(self.iou_least, 6) if self.masks else None,
            "masks_with_holes": self.holed,
            "hole_pixels": self.hole_pixels,
        }


def outlines(mask: Rle, tolerance: float, loss: Loss) -> list[Polygon]:
    """Return the outer outlines of a mask's parts: arrays (N, 2) of x, y in pixels, N >= 3.

    Args:
        mask: not empty.
        tolerance: how far, in pixels, an outline may leave the exact one to have fewer corners.
        loss: is told what the polygons lose.
    """
    pixels = masks.decode(mask).astype(np.uint8)
    size = (mask.width * _TWICE, mask.height * _TWICE)
    doubled = cv2.resize(pixels, size, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    exact = [_outline(contour) for contour in contours]
    found = [_simplified(contour, tolerance) for contour in contours] if tolerance else exact
    _note_loss(mask, exact, found, loss)
    return found


def filled(polygons: Sequence[Polygon], height: int, width: int) -> Rle:
    """Return the union of polygons as a mask; what lies outside of the image is cut off."""
    flat = [np.clip(polygon, 0, (width, height)).ravel().tolist() for polygon in polygons]
    merged = coco.merge(coco.frPyObjects(flat, height, width))
    return Rle(height, width, merged["counts"].decode("ascii"))


def _outline(contour: NDArray[Any]) -> Polygon:
    """Return a contour of the doubled mask in the mask's own pixels."""
    outline: Polygon = (contour.reshape(-1, 2) + 0.5) / _TWICE
    return outline


def _simplified(contour: NDArray[Any], tolerance: float) -> Polygon:
    fewer = cv2.approxPolyDP(contour, tolerance * _TWICE, closed=True)
    return _outline(fewer if len(fewer) >= _LEAST_CORNERS else contour)


def _note_loss(
    mask: Rle, exact: Sequence[Polygon], polygons: Sequence[Polygon], loss: Loss
) -> None:
    iou = masks.iou(mask, filled(polygons, mask.height, mask.width))
    loss.masks += 1
    loss.iou_sum += iou
    loss.iou_least = min(loss.iou_least, iou)
    holes = masks.area(filled(exact, mask.height, mask.width)) - masks.area(mask)
    loss.holed += holes > 0
    loss.hole_pixels += holes
