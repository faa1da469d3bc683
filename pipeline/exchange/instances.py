"""A mask as its instances: the parts of it that do not touch."""

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline import masks
from pipeline.records import Rle

CONNECTIVITY = 8


@dataclass
class Parts:
    """How many parts were kept, and how many ``dropped`` ones of how many ``pixels``."""

    kept: int = 0
    dropped: int = 0
    pixels: int = 0


def split(mask: Rle, least: int, parts: Parts) -> list[Rle]:
    """Return the connected parts of a mask, from top to bottom.

    Pixels that touch at a corner are connected. The largest part is kept whatever its size, so
    that nothing that is present gets lost.

    Args:
        mask: the mask; an empty one has no parts.
        least: parts of fewer pixels are dropped.
        parts: counts them.
    """
    pixels = masks.decode(mask)
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(
        pixels.astype(np.uint8), connectivity=CONNECTIVITY
    )
    areas = stats[1:, cv2.CC_STAT_AREA]
    if count <= 1:
        return []
    largest = int(areas.argmax())
    kept = [part for part, area in enumerate(areas) if area >= least or part == largest]
    parts.kept += len(kept)
    parts.dropped += len(areas) - len(kept)
    parts.pixels += int(areas.sum() - areas[kept].sum())
    return [masks.encode(numbers == part + 1) for part in kept]
