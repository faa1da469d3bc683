"""COCO's JSON of instances, with run lengths or with polygons.

``neg_category_ids`` of an image are the labels that are known not to be there, as in LVIS; about
a category that an image neither shows nor names there, nothing is known.
"""

import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from pipeline import masks
from pipeline.exchange.polygons import Loss, filled, outlines
from pipeline.exchange.records import Category, ExportedImage, Shape, Split
from pipeline.exchange.writing import Report, box, rounded
from pipeline.records import Rle

NAME = "annotations.json"


class CocoWriter:
    """Writes ``annotations.json``, or ``train.json`` and ``val.json``.

    Args:
        folder: where to.
        files: closes what is opened.
        categories: every label of the export.
        splits: which splits there are.
        info: goes into the files as it is.
        tolerance: of polygons, in pixels; None for run lengths.
    """

    def __init__(
        self,
        folder: Path,
        files: ExitStack,
        *,
        categories: Sequence[Category],
        splits: Sequence[Split],
        info: dict[str, Any],
        tolerance: float | None,
    ) -> None:
        self._ids = {category.name: category.id for category in categories}
        self._tolerance = tolerance
        self._loss = Loss()
        self._images = 0
        self._annotations = 0
        names = {split: f"{split}.json" for split in splits} if len(splits) > 1 else {"train": NAME}
        self._files = {split: _CocoFile(folder / name, files) for split, name in names.items()}
        self._head = {
            "info": info,
            "licenses": [],
            "categories": [{"id": row.id, "name": row.name} for row in categories],
        }

    def add(self, image: ExportedImage) -> None:
        """Write one image and its annotations."""
        self._images += 1
        file = self._files[image.split]
        file.images.add(self._image(image))
        for shape in image.shapes:
            self._annotations += 1
            file.annotations.add(self._annotation(shape))

    def close(self) -> Report:
        """Put the files together."""
        for file in self._files.values():
            file.close(self._head)
        return {} if self._tolerance is None else {"polygons": self._loss.to_json()}

    def _image(self, image: ExportedImage) -> dict[str, Any]:
        source = image.source
        return {
            "id": self._images,
            "file_name": source.name,
            "width": source.width,
            "height": source.height,
            "neg_category_ids": [self._ids[label] for label in image.absent],
            "group": source.image.group,
            "uri": source.image.uri,
        }

    def _annotation(self, shape: Shape) -> dict[str, Any]:
        answer = shape.answer
        segmentation, written = self._segmentation(shape.mask)
        row = {
            "id": self._annotations,
            "image_id": self._images,
            "category_id": self._ids[answer.label],
            "segmentation": segmentation,
            "area": masks.area(written),
            "bbox": box(written),
            "iscrowd": 0,
            "verdict": answer.verdict,
        }
        return row if answer.score is None else row | {"score": rounded(answer.score)}

    def _segmentation(self, rle: Rle) -> tuple[object, Rle]:
        """Return a mask as COCO writes it, and the mask that a reader makes of that."""
        if self._tolerance is None:
            return {"size": [rle.height, rle.width], "counts": rle.counts}, rle
        found = [polygon.round(2) for polygon in outlines(rle, self._tolerance, self._loss)]
        return [polygon.ravel().tolist() for polygon in found], filled(found, rle.height, rle.width)


class _CocoFile:
    """One JSON file whose two long lists grow at the same time."""

    def __init__(self, path: Path, files: ExitStack) -> None:
        self._path = path
        self.images = _JsonList(path.with_suffix(".images"), files)
        self.annotations = _JsonList(path.with_suffix(".annotations"), files)

    def close(self, head: dict[str, Any]) -> None:
        with self._path.open("w", encoding="utf-8") as file:
            file.write(json.dumps(head, ensure_ascii=False)[:-1])
            self.images.move(file, "images")
            self.annotations.move(file, "annotations")
            file.write("}\n")


class _JsonList:
    def __init__(self, path: Path, files: ExitStack) -> None:
        self._path = path
        self._file = files.enter_context(path.open("w", encoding="utf-8"))
        self._separator = ""

    def add(self, item: dict[str, Any]) -> None:
        self._file.write(self._separator + json.dumps(item, ensure_ascii=False))
        self._separator = ",\n"

    def move(self, target: TextIO, name: str) -> None:
        """Append the list to a file, and remove its own."""
        self._file.close()
        target.write(f',\n"{name}": [\n')
        with self._path.open(encoding="utf-8") as file:
            shutil.copyfileobj(file, target)
        target.write("]")
        self._path.unlink()
