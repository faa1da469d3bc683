"""Masks as PNG: one index image for the labels of an exclusive group, else one mask a label.

Index images hold the category's number at its pixels, 0 where none of the group is and 255 where
nothing is known: the rest of an image of which a label of the group has no answer. Masks of a
label are 255 inside and 0 outside; an absent label's mask is 0 all over, an unknown one has none.
"""

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline import masks
from pipeline.errors import ConfigError
from pipeline.exchange.names import stem
from pipeline.exchange.records import Category, ExportedImage, Shape
from pipeline.exchange.writing import ImageList, Report, made_parent

UNKNOWN = 255
INSIDE = 255


@dataclass(frozen=True, slots=True)
class PngFolder:
    """Where a label's masks lie and the ``value`` of its pixels.

    ``index`` says that the images there hold other labels of an exclusive group too.
    """

    label: str
    folder: str
    value: int
    index: bool


def folders_of(
    categories: Sequence[Category], groups: Sequence[Sequence[str]]
) -> tuple[PngFolder, ...]:
    """Return where the masks of each label go.

    Raises:
        ConfigError: an exclusive label has a number that does not fit into 8 bits.
    """
    group_of = {label: number for number, group in enumerate(groups, 1) for label in group}
    found = []
    for category in categories:
        group = group_of.get(category.name)
        if group is None:
            folder = f"labels/{category.id}-{_plain(category.name)}"
            found.append(PngFolder(category.name, folder, INSIDE, index=False))
            continue
        if category.id >= UNKNOWN:
            raise ConfigError(
                f"exclusive label {category.name!r} is category {category.id} of this store, and "
                "an index image holds numbers below 255: export coco or parquet"
            )
        found.append(PngFolder(category.name, f"index/{group}", category.id, index=True))
    return tuple(found)


class PngWriter:
    """Writes ``index/<group>/<name>.png``, ``labels/<id>-<label>/<name>.png``, ``images.jsonl``."""

    def __init__(
        self,
        folder: Path,
        files: ExitStack,
        *,
        categories: Sequence[Category],
        groups: Sequence[Sequence[str]],
    ) -> None:
        self._folder = folder
        self._places = {place.label: place for place in folders_of(categories, groups)}
        self._groups = groups
        self._list = ImageList(folder, files)

    def add(self, image: ExportedImage) -> None:
        """Write the masks of one image."""
        self._list.add(image)
        shapes = {shape.answer.label: shape for shape in image.shapes}
        for label in image.known:
            place = self._places[label]
            if not place.index:
                self._save(place.folder, image, _binary(image, shapes.get(label)))
        for group in self._groups:
            if not image.known.isdisjoint(group):
                self._save_index(group, image, shapes)

    def close(self) -> Report:
        """Return where the masks of each label are."""
        return {"folders": [asdict(place) for place in self._places.values()]}

    def _save_index(
        self, group: Sequence[str], image: ExportedImage, shapes: dict[str, Shape]
    ) -> None:
        size = (image.source.height, image.source.width)
        rest = 0 if image.known.issuperset(group) else UNKNOWN
        index = np.full(size, rest, dtype=np.uint8)
        for label in group:
            if label in shapes:
                index[masks.decode(shapes[label].mask)] = self._places[label].value
        picture = Image.fromarray(index)
        picture.putpalette(_palette())
        self._save(self._places[group[0]].folder, image, picture)

    def _save(self, folder: str, image: ExportedImage, picture: Image.Image) -> None:
        path = self._folder / folder / f"{stem(image.source.name)}.png"
        picture.save(made_parent(path), format="PNG")


def _binary(image: ExportedImage, shape: Shape | None) -> Image.Image:
    if shape is None:
        return Image.new("L", (image.source.width, image.source.height), 0)
    pixels: NDArray[np.uint8] = masks.decode(shape.mask).astype(np.uint8) * INSIDE
    return Image.fromarray(pixels)


def _palette() -> list[int]:
    """Return the colors of PASCAL VOC: the bits of a number, spread over red, green and blue."""
    colors = []
    for number in range(256):
        for channel in range(3):
            bits = [(number >> (3 * place + channel) & 1) << (7 - place) for place in range(8)]
            colors.append(sum(bits))
    return colors


def _plain(label: str) -> str:
    """Return a label as a part of a folder's name; the category's number keeps it distinct."""
    return re.sub(r"[^A-Za-z0-9]+", "_", label).strip("_")[:40] or "label"
