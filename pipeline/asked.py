"""What a run asks for, held in memory: its images by id, with their labels and names."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pipeline.config import RunFile
from pipeline.errors import StoppedError
from pipeline.exchange.names import file_name
from pipeline.progress import Progress
from pipeline.records import Correction, ImageRef, LabelTask, Prediction
from pipeline.sources.manifest import is_manifest
from pipeline.sources.tasks import image_tasks
from pipeline.storage.addresses import Address, locate

Row = TypeVar("Row", bound=Prediction | Correction)


@dataclass(frozen=True, slots=True)
class AskedImage:
    """An image, its name in exports, and its tasks."""

    image: ImageRef
    name: str
    tasks: tuple[LabelTask, ...]

    def task(self, label: str) -> LabelTask | None:
        """Return the task under a label; an image has at most one."""
        return next((task for task in self.tasks if task.label == label), None)


@dataclass
class Asked:
    """All that a run asks: images by their ids, in the order of the source, and labels."""

    images: dict[str, AskedImage] = field(default_factory=dict)
    labels: dict[str, None] = field(default_factory=dict)

    def keys(self) -> Iterator[str]:
        """Yield the keys of all tasks, those of an image together."""
        for asked in self.images.values():
            yield from (task.key for task in asked.tasks)


def asked_of(
    run: RunFile,
    model_version: str,
    settings_json: str,
    *,
    stop: threading.Event,
    progress: Progress,
) -> Asked:
    """Return what a run asks of a model; memory holds about 1 KB an image with three queries.

    Raises:
        InputError: the source cannot be used.
        StorageError: a store refused or broke.
        StoppedError: ``stop`` was set.
    """
    root = source_root(run)
    found = Asked()
    progress.begin("images planned")
    for work in image_tasks(run.source, run.s3, model_version, settings_json):
        if stop.is_set():
            raise StoppedError("stopped while planning; nothing was written")
        name = file_name(work.image.uri, root)
        found.images[work.image.id] = AskedImage(work.image, name, work.tasks)
        found.labels.update(dict.fromkeys(task.label for task in work.tasks))
        progress.advance(1)
    progress.end()
    return found


def source_root(run: RunFile) -> Address:
    """Return the folder that names of images start from: the source's, or its manifest's."""
    place = locate(run.source.images)
    return place.parent if is_manifest(place) else place


class Beside(Generic[Row]):
    """Rows that come image by image, for a walk over images in the same order."""

    def __init__(self, groups: Iterator[list[Row]]) -> None:
        self._groups = groups
        self._next: list[Row] | None = next(groups, None)

    def of(self, image_id: str) -> list[Row]:
        """Return the rows of an image; none if there are none. Ask for images in order."""
        if self._next is None or self._next[0].image_id != image_id:
            return []
        rows, self._next = self._next, next(self._groups, None)
        return rows
