"""YOLO's text files of segments, and the ``data.yaml`` that names them.

A line is one instance: its class, then its outline as x, y in [0, 1]. A file without a line is an
image with nothing on it. Classes are counted from 0: a category's number less one.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import yaml

from pipeline.exchange.names import stem
from pipeline.exchange.polygons import Loss, outlines
from pipeline.exchange.records import Category, ExportedImage, Shape, Split
from pipeline.exchange.writing import ImageList, Report, made_parent

_LEAST_DIGITS = 6


class YoloWriter:
    """Writes ``labels/<split>/<name>.txt``, ``data.yaml``, ``classes.txt`` and ``images.jsonl``.

    Args:
        folder: where to.
        files: closes what is opened.
        categories: every category of the store, since classes are counted without a gap.
        splits: which splits there are.
        tolerance: of the outlines, in pixels.
    """

    def __init__(
        self,
        folder: Path,
        files: ExitStack,
        *,
        categories: Sequence[Category],
        splits: Sequence[Split],
        tolerance: float,
    ) -> None:
        self._folder = folder
        self._classes = {category.name: category.id - 1 for category in categories}
        self._tolerance = tolerance
        self._loss = Loss()
        self._list = ImageList(folder, files)
        names = {category.id - 1: " ".join(category.name.split()) for category in categories}
        data = {"train": "images/train", "val": f"images/{splits[-1]}", "names": names}
        text = yaml.safe_dump(data, allow_unicode=True, sort_keys=False)
        (folder / "data.yaml").write_text(text, encoding="utf-8")
        (folder / "classes.txt").write_text("".join(f"{name}\n" for name in names.values()))
        for split in splits:
            (folder / "labels" / split).mkdir(parents=True)

    def add(self, image: ExportedImage) -> None:
        """Write the file of one image."""
        self._list.add(image)
        lines = [line for shape in image.shapes for line in self._lines(shape)]
        path = self._folder / "labels" / image.split / f"{stem(image.source.name)}.txt"
        made_parent(path).write_text("".join(lines), encoding="ascii")

    def close(self) -> Report:
        """Return what the outlines lose."""
        return {"polygons": self._loss.to_json()}

    def _lines(self, shape: Shape) -> list[str]:
        size = (shape.mask.width, shape.mask.height)
        number = self._classes[shape.answer.label]
        lines = []
        for polygon in outlines(shape.mask, self._tolerance, self._loss):
            numbers = (polygon / size).ravel().tolist()
            text = " ".join(f"{value:.{_LEAST_DIGITS}f}" for value in numbers)
            lines.append(f"{number} {text}\n")
        return lines
