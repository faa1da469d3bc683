"""Masks as boolean arrays (H, W) and as COCO's compressed run lengths, on pycocotools.

Run lengths go down the columns; ``counts`` is COCO's ASCII form of them.
"""

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from pipeline.records import Rle

Mask = NDArray[np.bool_]


def encode(mask: Mask) -> Rle:
    """Return a boolean mask (H, W) in run-length form.

    Raises:
        ValueError: the array is not boolean or not two-dimensional.
    """
    if mask.dtype != np.bool_ or mask.ndim != 2:  # noqa: PLR2004
        raise ValueError(f"a mask is a boolean array (H, W), not {mask.dtype} {mask.shape}")
    height, width = mask.shape
    counts = coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]
    return Rle(height=height, width=width, counts=counts.decode("ascii"))


def decode(rle: Rle) -> Mask:
    """Return the boolean mask (H, W) that ``rle`` describes.

    Raises:
        ValueError: the runs do not fill ``height`` by ``width`` pixels.
    """
    return np.ascontiguousarray(coco.decode(_coco(rle)), dtype=np.bool_)


def empty(height: int, width: int) -> Rle:
    """Return a mask of that size with nothing in it."""
    return encode(np.zeros((height, width), dtype=np.bool_))


def area(rle: Rle) -> int:
    """Return how many pixels are inside."""
    return int(coco.area(_coco(rle)))


def iou(first: Rle, second: Rle) -> float:
    """Return intersection over union of two masks of one size; 1 when both are empty.

    Raises:
        ValueError: the sizes differ.
    """
    if (first.height, first.width) != (second.height, second.width):
        raise ValueError(
            f"masks of {first.height}x{first.width} and {second.height}x{second.width} pixels "
            "cannot be compared"
        )
    union = area(Rle(first.height, first.width, _merged(first, second)))
    return (area(first) + area(second) - union) / union if union else 1.0


def _merged(first: Rle, second: Rle) -> str:
    counts: bytes = coco.merge([_coco(first), _coco(second)], intersect=False)["counts"]
    return counts.decode("ascii")


def _coco(rle: Rle) -> dict[str, object]:
    return {"size": [rle.height, rle.width], "counts": rle.counts.encode("ascii")}
