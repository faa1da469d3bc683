"""From what is known of each image to a folder of files: the steps between, and their counts."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pipeline import masks
from pipeline.exchange.coco import CocoWriter
from pipeline.exchange.exclusive import Overlaps, without_overlaps
from pipeline.exchange.instances import CONNECTIVITY, Parts, split
from pipeline.exchange.names import split_of, split_unit
from pipeline.exchange.parquet import ParquetWriter
from pipeline.exchange.png import PngWriter
from pipeline.exchange.records import (
    Answer,
    Category,
    ExportedImage,
    ImageAnswers,
    Shape,
    Split,
)
from pipeline.exchange.writing import Writer
from pipeline.exchange.yolo import YoloWriter

Format = Literal["coco", "coco-polygons", "yolo", "png", "parquet"]
SPLIT_ALWAYS: tuple[Format, ...] = ("yolo",)
"""Formats in which one object has one outline, so that masks are split whether asked or not."""


@dataclass(frozen=True, slots=True)
class Shaping:
    """How masks become files.

    ``instances`` splits masks into parts of at least ``least`` pixels. ``tolerance`` is how far,
    in pixels, a polygon may leave the exact outline. ``val_share`` of the groups goes to a split
    of its own.
    """

    format: Format
    instances: bool
    least: int
    tolerance: float
    val_share: float

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that there are."""
        return ("train", "val") if self.val_share else ("train",)

    @property
    def splits_masks(self) -> bool:
        """Whether masks are split into instances."""
        return self.instances or self.format in SPLIT_ALWAYS


@dataclass
class Counts:
    """What was written, in images, (image, query) and masks; ``shapes`` are masks as written."""

    images: int = 0
    present: int = 0
    absent: int = 0
    unknown: int = 0
    shapes: int = 0
    partial: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    overlaps: Overlaps = field(default_factory=Overlaps)
    parts: Parts = field(default_factory=Parts)


class Exporter:
    """Shapes images and hands them to the writer of a format.

    Args:
        folder: where to.
        files: closes what is opened.
        shaping: how.
        categories: all of the store.
        labels: those of the export.
        exclusive: groups of labels that share no pixel.
        by_image: split image by image, because they are all of one group.
        info: who wrote this, for formats that have room for it.

    Raises:
        ConfigError: the format cannot hold the categories.
    """

    def __init__(
        self,
        folder: Path,
        files: ExitStack,
        shaping: Shaping,
        *,
        categories: Sequence[Category],
        labels: Sequence[str],
        exclusive: Sequence[Sequence[str]],
        by_image: bool,
        info: dict[str, Any],
    ) -> None:
        self.counts = Counts(splits=dict.fromkeys(shaping.splits, 0))
        self._shaping = shaping
        self._labels = frozenset(labels)
        self._exclusive = exclusive
        self._by_image = by_image
        self._writer = _writer(
            folder,
            files,
            shaping,
            categories=categories,
            labels=labels,
            exclusive=exclusive,
            info=info,
        )

    def add(self, image: ImageAnswers) -> ExportedImage:
        """Write one image; return it as it was written."""
        answers = without_overlaps(image.answers, self._exclusive, self.counts.overlaps)
        image = _without_emptied(replace(image, answers=answers))
        answers = image.answers
        shapes = tuple(shape for answer in answers for shape in self._shapes(answer))
        unit = image.name if self._by_image else split_unit(image.image, image.name)
        exported = ExportedImage(
            source=image,
            split=split_of(unit, self._shaping.val_share),
            shapes=shapes,
            absent=tuple(answer.label for answer in answers if not answer.present),
        )
        self._writer.add(exported)
        self._count(exported)
        return exported

    def close(self) -> dict[str, Any]:
        """Finish the files; return what there is to report."""
        report = self._writer.close()
        counts = self.counts
        instances = {
            "connectivity": CONNECTIVITY,
            "least_pixels": self._shaping.least,
            "kept": counts.parts.kept,
            "dropped": counts.parts.dropped,
            "dropped_pixels": counts.parts.pixels,
        }
        return {
            "images": counts.images,
            "present": counts.present,
            "absent": counts.absent,
            "unknown": counts.unknown,
            "partial_images": counts.partial,
            "masks": counts.shapes,
            "splits": counts.splits,
            "split_by": "image" if self._by_image else "group",
            "overlaps": asdict(counts.overlaps),
            "instances": instances if self._shaping.splits_masks else None,
            **report,
        }

    def _shapes(self, answer: Answer) -> list[Shape]:
        if not answer.present:
            return []
        if not self._shaping.splits_masks:
            return [Shape(answer, 0, answer.mask)]
        found = split(answer.mask, self._shaping.least, self.counts.parts)
        return [Shape(answer, number, mask) for number, mask in enumerate(found)]

    def _count(self, image: ExportedImage) -> None:
        counts = self.counts
        counts.images += 1
        counts.splits[image.split] += 1
        counts.present += len(image.source.answers) - len(image.absent)
        counts.absent += len(image.absent)
        counts.unknown += len(image.source.unknown)
        counts.shapes += len(image.shapes)
        counts.partial += not image.known.issuperset(self._labels)


def _without_emptied(image: ImageAnswers) -> ImageAnswers:
    """Return an image whose present answers have a pixel; what lost them all is unknown."""
    emptied = {row.label for row in image.answers if row.present and not masks.area(row.mask)}
    answers = tuple(row for row in image.answers if row.label not in emptied)
    return replace(image, answers=answers, unknown=(*image.unknown, *sorted(emptied)))


def _writer(
    folder: Path,
    files: ExitStack,
    shaping: Shaping,
    *,
    categories: Sequence[Category],
    labels: Sequence[str],
    exclusive: Sequence[Sequence[str]],
    info: dict[str, Any],
) -> Writer:
    chosen = [category for category in categories if category.name in labels]
    splits = shaping.splits
    match shaping.format:
        case "coco" | "coco-polygons":
            tolerance = shaping.tolerance if shaping.format == "coco-polygons" else None
            return CocoWriter(
                folder, files, categories=chosen, splits=splits, info=info, tolerance=tolerance
            )
        case "yolo":
            return YoloWriter(
                folder, files, categories=categories, splits=splits, tolerance=shaping.tolerance
            )
        case "png":
            return PngWriter(folder, files, categories=chosen, groups=exclusive)
        case "parquet":
            return ParquetWriter(folder, files, categories=chosen)
