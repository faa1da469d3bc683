"""Masks as boolean arrays (H, W) and as COCO's compressed run lengths, on pycocotools.

Run lengths go down the columns; ``counts`` is COCO's ASCII form of them.
"""

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from pipeline.records import Rle

Mask = NDArray[np.bool_]
_MOST_GROUPS = 6  # a run of 32 bits takes 7 groups of 5


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
    runs = _runs(rle.counts)
    if (runs < 0).any() or runs.sum() != rle.height * rle.width:
        raise ValueError(f"the runs do not fill a mask of {rle.height}x{rle.width} pixels")
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


def _runs(counts: str) -> NDArray[np.int64]:
    """Return the run lengths that COCO's ASCII form holds.

    Each number is written in groups of 5 bits, lowest first, as characters from 48 on; bit 5
    says that more follow, bit 4 of the last is the sign. From the fourth number on, it is the
    difference to the number before the last (pycocotools, ``rleToString``).
    """
    characters = np.frombuffer(counts.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    last = (characters & 0x20) == 0
    outside = (characters < 0) | (characters >= 1 << 6)
    if not characters.size or not last[-1] or outside.any():
        raise ValueError("these are not COCO's compressed runs")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(characters.size) - np.repeat(starts, ends - starts + 1)
    if place.max() > _MOST_GROUPS:
        raise ValueError("these are not COCO's compressed runs")
    numbers = np.add.reduceat((characters & 0x1F) << (5 * place), starts)
    negative = (characters[ends] & 0x10) != 0
    numbers -= np.where(negative, 1 << (5 * (ends - starts + 1)), 0)
    runs = numbers.copy()
    runs[1::2] = np.cumsum(numbers[1::2])
    runs[2::2] = np.cumsum(numbers[2::2])
    return runs


def _coco(rle: Rle) -> dict[str, object]:
    return {"size": [rle.height, rle.width], "counts": rle.counts.encode("ascii")}
