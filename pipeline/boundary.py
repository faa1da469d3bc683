"""How well the outlines of two masks agree: the boundary F measure.

As in Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object
Segmentation" (CVPR 2016), after Csurka et al., "What is a good evaluation measure for semantic
segmentation?" (BMVC 2013): boundary pixels of one mask count when one of the other lies within a
tolerance; F is the harmonic mean of the two shares.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

TOLERANCE = 0.008
"""Of the image's diagonal, as in DAVIS: 7 pixels at 640x480, 11 at 1024x768, 40 at 4000x3000."""

Mask = NDArray[np.bool_]


def boundary_f(first: Mask, second: Mask) -> float:
    """Return the boundary F of two masks (H, W), 0 to 1.

    It is 1 where both are empty and 0 where only one is.

    Raises:
        ValueError: the shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"masks of shapes {first.shape} and {second.shape} have no common pixels")
    if np.array_equal(first, second):
        return 1.0
    if not first.any() or not second.any():
        return 0.0
    reach = tolerance_pixels(*first.shape)
    one, other = _boundary(first), _boundary(second)
    precision, recall = _near(one, other, reach), _near(other, one, reach)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def tolerance_pixels(height: int, width: int) -> int:
    """Return how far apart matching boundary pixels may lie in an image of that size."""
    return math.ceil(TOLERANCE * math.hypot(height, width))


def _boundary(mask: Mask) -> Mask:
    """Return the pixels that differ from their neighbor to the east, south or southeast."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    edges: Mask = (here != padded[:-1, 1:]) | (here != padded[1:, :-1]) | (here != padded[1:, 1:])
    return edges


def _near(boundary: Mask, other: Mask, reach: int) -> float:
    """Return the share of boundary pixels with one of the other within ``reach`` pixels.

    A mask that fills the image has no boundary: nothing of it is far from the other's.
    """
    if not boundary.any():
        return 1.0
    if not other.any():
        return 0.0
    away = cv2.distanceTransform((~other).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float((away[boundary] <= reach).mean())
