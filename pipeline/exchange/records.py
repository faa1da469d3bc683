"""The records of an export: what is known of an image, and the shapes that are written of it."""

from dataclasses import dataclass
from typing import Literal

from pipeline.records import ImageRef, Rle

Split = Literal["train", "val"]


@dataclass(frozen=True, slots=True)
class Category:
    """A label with its number in this store, from 1 on; the number never changes."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of one (image, query): a mask, or that there is none (``present`` False).

    ``key`` is that of the prediction, or the id of the correction; ``verdict`` is "predicted" or
    what a person made of it. ``score`` is the predicted IoU, None for corrections. Of two
    exclusive answers that claim a pixel, the one of greater ``strength`` gets it.
    """

    key: str
    label: str
    query: str
    present: bool
    mask: Rle
    score: float | None
    strength: float
    verdict: str
    model_version: str


@dataclass(frozen=True, slots=True)
class ImageAnswers:
    """An image with what is known of it; never without an answer.

    ``name`` is its path in the export, below no folder of its own and unique. ``width`` and
    ``height`` are in pixels of the upright image. ``unknown`` are the labels that were asked and
    have no answer.
    """

    image: ImageRef
    name: str
    width: int
    height: int
    answers: tuple[Answer, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """A mask to write: all of an answer, or the ``number``-th (from 0) of its instances."""

    answer: Answer
    number: int
    mask: Rle


@dataclass(frozen=True, slots=True)
class ExportedImage:
    """An image as it is written.

    ``shapes`` are what is there, ``absent`` the labels that are known not to be there.
    """

    source: ImageAnswers
    split: Split
    shapes: tuple[Shape, ...]
    absent: tuple[str, ...]

    @property
    def known(self) -> frozenset[str]:
        """The labels with an answer."""
        return frozenset(answer.label for answer in self.source.answers)
