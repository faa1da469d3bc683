"""What an import finds in its source, whatever the source's format."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.records import Rle

Size = tuple[int, int]
"""Height and width in pixels."""


class UnfitError(Exception):
    """Something in the source cannot be taken: the message says what and why."""


@dataclass(frozen=True, slots=True)
class FoundMask:
    """A mask of one category; several of one category in an image are parts of one mask.

    ``score`` is None where the source gives none; ``crowd`` is COCO's mark of a crowd.
    """

    category: str
    mask: Rle
    score: float | None
    crowd: bool


@dataclass(frozen=True, slots=True)
class FoundImage:
    """The masks of one image, and the categories that the source says are ``absent`` there."""

    masks: tuple[FoundMask, ...]
    absent: tuple[str, ...]


class MaskSource(Protocol):
    """Masks by the names of their images."""

    @property
    def categories(self) -> Sequence[str]:
        """Every category there is."""

    with_suffix: bool
    """Whether names end in the images' suffixes."""

    def names(self) -> Sequence[str]:
        """Return the names of all images; one that is there twice comes twice."""

    def load(self, name: str, size: Size) -> FoundImage:
        """Return what there is on an image that is of ``size``.

        Raises:
            UnfitError: it is of another size, or damaged.
            StorageError: the store failed.
        """


def check_size(said: Size, size: Size) -> None:
    """Make sure that masks have the size of their image.

    Raises:
        UnfitError: they have not.
    """
    if said == size:
        return
    turned = said == size[::-1]
    hint = "; it is turned by its EXIF orientation, masks must be turned too" if turned else ""
    raise UnfitError(
        f"is {said[1]}x{said[0]} pixels in the source, the image shows as {size[1]}x{size[0]}{hint}"
    )
