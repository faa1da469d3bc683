"""The mask that a person left of a query: the union of its brush regions, on the table's pixels.

A mask that nobody changed is the table's own, pixel by pixel. That holds for one that was shown in
coarse squares because of its size, too; where such a mask was painted on, only the changed pixels
count, and the others stay as fine as they are in the table.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelstudio import brush
from labelstudio.collecting.annotation import AnnotationError, Region
from labelstudio.publishing.payload import COARSE_NOTE, COARSEST, coarse, region_id
from pipeline import masks
from pipeline.records import Prediction

Mask = NDArray[np.bool_]

_NOTE = re.compile(re.escape(COARSE_NOTE).replace(r"\{\}", r"(\d{1,9})"))
_READ = ("brushlabels", "keypointlabels", "choices")


@dataclass(frozen=True, slots=True)
class Brushwork:
    """A query's mask as it was left, (H, W), beside the table's.

    ``shown`` says whether there was a mask to begin with, ``changed`` whether the person left
    another one than they saw.
    """

    table: Mask
    mask: Mask
    shown: bool
    changed: bool


def brushwork(row: Prediction, regions: Sequence[Region], *, blank: bool) -> Brushwork:
    """Return what a person left of a prediction's mask.

    Args:
        row: the prediction that the work began at.
        regions: of the annotation.
        blank: the prediction was withheld.

    Raises:
        AnnotationError: a region of the query has another size, does not decode, or is of a kind
            that holds no brush mask.
    """
    table = masks.decode(row.mask)
    drawn = np.zeros_like(table)
    side = 1
    for region in _regions_of(row, regions):
        drawn |= _decoded(region, row)
        if region.get("id") == region_id(row.key, "mask"):
            side = _coarseness(region)
    seen = np.zeros_like(table) if blank else coarse(table, side) if side > 1 else table
    differs = drawn != seen
    changed = bool(differs.any())
    if not blank:
        drawn = np.where(differs, drawn, table)
    return Brushwork(table, drawn, bool(seen.any()), changed)


def _regions_of(row: Prediction, regions: Sequence[Region]) -> list[Region]:
    found = []
    for region in regions:
        kind = str(region.get("type"))
        value = region.get("value")
        if not isinstance(value, dict):
            raise AnnotationError(f"the region {region.get('id')} has no value")
        if row.label in value.get(kind, ()):
            if kind not in _READ:
                raise AnnotationError(
                    f"{row.label!r} was drawn with {kind}, which is not read: draw it as a brush "
                    "mask, the only kind that the interface of readloop offers"
                )
            if kind == "brushlabels":
                found.append(region)
    return found


def _decoded(region: Region, row: Prediction) -> Mask:
    size = region.get("original_width"), region.get("original_height")
    if size != (row.width, row.height):
        raise AnnotationError(
            f"a mask of {row.label!r} is {size[0]} x {size[1]} pixels, its image {row.width} x "
            f"{row.height}"
        )
    try:
        alpha = brush.decode(region["value"].get("rle"), row.height, row.width)
    except brush.BrushError as error:
        raise AnnotationError(f"a mask of {row.label!r} does not decode: {error}") from error
    painted: Mask = alpha > brush.PAINTED_ABOVE
    return painted


def _coarseness(region: Region) -> int:
    """Return the side of the squares that publishing says it showed the mask in."""
    meta = region.get("meta")
    texts = meta.get("text", ()) if isinstance(meta, dict) else ()
    for text in texts if isinstance(texts, list) else [texts]:
        found = _NOTE.fullmatch(str(text))
        if found and 1 < int(found.group(1)) <= COARSEST:
            return int(found.group(1))
    return 1
