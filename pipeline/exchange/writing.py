"""What all writers of an export share."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from pipeline.exchange.records import ExportedImage
from pipeline.records import Rle

Report = dict[str, Any]


class Writer(Protocol):
    """Writes one format, image by image, in bounded memory.

    Writers open files in an ``ExitStack`` of their caller's, who closes them whatever happens.
    """

    def add(self, image: ExportedImage) -> None:
        """Write one image."""

    def close(self) -> Report:
        """Finish all files; return what the format has to report, by name."""


class ImageList:
    """``images.jsonl``: one line an image, for formats whose files cannot say what is unknown."""

    NAME = "images.jsonl"

    def __init__(self, folder: Path, files: ExitStack) -> None:
        self._file = files.enter_context((folder / self.NAME).open("w", encoding="utf-8"))

    def add(self, image: ExportedImage) -> None:
        """Write the line of one image."""
        source = image.source
        present = {shape.answer.label for shape in image.shapes}
        line = {
            "file_name": source.name,
            "uri": source.image.uri,
            "width": source.width,
            "height": source.height,
            "group": source.image.group,
            "split": image.split,
            "present": [row.label for row in source.answers if row.label in present],
            "absent": list(image.absent),
            "unknown": list(source.unknown),
        }
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")


def made_parent(path: Path) -> Path:
    """Return the path after making the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def rounded(score: float | None) -> float | None:
    """Return a score with six digits."""
    return None if score is None else round(score, 6)


def box(rle: Rle) -> list[float]:
    """Return the bounding box of a mask: left, top, width and height in pixels."""
    from pycocotools import mask as coco  # noqa: PLC0415

    found = coco.toBbox({"size": [rle.height, rle.width], "counts": rle.counts.encode("ascii")})
    return [float(side) for side in found]
