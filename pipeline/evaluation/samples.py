"""What a set asks about its pictures, with the truth, whatever format it came in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.records import QueryForm

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Regions:
    """The truth in an image's pixels, bool (H, W) both: the target, and what no score counts."""

    target: Mask
    ignored: Mask


class Truth(Protocol):
    """Draws the truth of one query."""

    def regions(self, height: int, width: int) -> Regions:
        """Return the truth for an image of that size in pixels.

        Raises:
            InputError: the truth belongs to an image of another size.
        """
        ...


@dataclass(frozen=True, slots=True)
class Sample:
    """One query on one image with its truth.

    ``image_id`` is the image's path below the set's root. ``present`` says whether the object is
    in the image. ``correction`` is the true expression next to a false one, empty if none is told.
    """

    image: Path
    image_id: str
    query: str
    form: QueryForm
    present: bool
    truth: Truth
    correction: str = ""
