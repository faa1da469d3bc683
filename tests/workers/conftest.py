"""A stand-in engine whose answers follow from the pixels, and two Ray nodes to run it on."""

import io
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import ray
from numpy.typing import NDArray
from PIL import Image
from ray import cloudpickle

from pipeline.records import ImageRef, ImageTasks, LabelTask, Query, task_key
from pipeline.storage.settings import S3Settings
from workers.actor import LabelJob
from workers.read.errors import QueryError
from workers.settings import LimitSettings

VERSION = "stand-in-1"
SETTINGS = "{}"


@dataclass(frozen=True)
class StandInSeconds:
    """As the engine's."""

    encode: float = 0.25
    answer: float = 0.5
    mask: float = 0.125


@dataclass(frozen=True)
class StandInSegment:
    """As the engine's."""

    mask: NDArray[np.bool_]
    query_vector: NDArray[np.float32]
    points_xy: NDArray[np.float32]
    predicted_iou: float = 0.75
    stability: float = 0.5
    point_labels: NDArray[np.int8] = field(default_factory=lambda: np.array([1, -1], np.int8))
    point_similarity: NDArray[np.float32] = field(
        default_factory=lambda: np.array([1.0, 0.5], np.float32)
    )


@dataclass(frozen=True)
class StandInAnswer:
    """As the engine's."""

    text: str
    present: bool
    seg_probability: float
    segments: tuple[StandInSegment, ...]
    seconds: StandInSeconds = StandInSeconds()


@dataclass
class StandInEngine:
    """Finds pixels brighter than the mean; queries starting with "no" find nothing.

    A query can order a fault: ``raise KIND`` raises it, ``die`` ends the process. ``births`` is a
    folder that gets one file for each process that loads the engine: its id and its Ray node.
    """

    births: Path | None = None
    delay: float = 0.0
    version: str = VERSION
    settings_json: str = SETTINGS

    def __post_init__(self) -> None:
        if self.births is not None:
            node = ray.get_runtime_context().get_node_id()
            (self.births / str(os.getpid())).write_text(node)

    def predict(
        self, image: NDArray[np.uint8], queries: Sequence[str], *, max_query_characters: int
    ) -> Sequence[StandInAnswer | QueryError]:
        """Answer from the pixels alone."""
        time.sleep(self.delay)
        return [
            self._answer(image, query)
            if 0 < len(query.strip()) <= max_query_characters
            else QueryError(f"{len(query)} characters")
            for query in queries
        ]

    def _answer(self, image: NDArray[np.uint8], query: str) -> StandInAnswer:
        if query == "die":
            os._exit(1)
        if query.startswith("raise "):
            raise {kind.__name__: kind for kind in FAULTS}[query.split()[1]](query)
        if query.startswith("no"):
            return StandInAnswer("There is none.", present=False, seg_probability=0.1, segments=())
        gray = image.mean(axis=2)
        mask = gray > gray.mean()
        vector = np.resize(gray.astype(np.float32), 256)
        xy = np.array([[0.5, 1.5], [float(len(query)), 2.0]], np.float32)
        segments = (StandInSegment(mask, vector, xy),)
        return StandInAnswer("It is [SEG].", present=True, seg_probability=0.9, segments=segments)


class AcceleratorError(RuntimeError):
    """Named as torch's, which says that a device is broken."""


FAULTS = (RuntimeError, ValueError, MemoryError, AcceleratorError, OSError)
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def image_file(path: Path, seed: int = 0, size: tuple[int, int] = (12, 8)) -> ImageRef:
    """Write a random picture of (width, height) pixels and describe it as a source would."""
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    path.write_bytes(buffer.getvalue())
    return ImageRef(path.name, path.as_uri(), path.stat().st_size, "", "")


def work(image: ImageRef, *queries: str) -> ImageTasks:
    """Ask those queries on an image."""
    tasks = tuple(
        LabelTask(task_key(image, Query(f"l{n}", text), VERSION, SETTINGS), f"l{n}", text)
        for n, text in enumerate(queries)
    )
    return ImageTasks(image, tasks)


@pytest.fixture
def images(tmp_path: Path) -> Callable[..., list[ImageTasks]]:
    """Make that many pictures, each with the queries."""
    folder = tmp_path / "images"
    folder.mkdir()

    def make(count: int, *queries: str) -> list[ImageTasks]:
        return [work(image_file(folder / f"{n}.png", n), *queries) for n in range(count)]

    return make


@pytest.fixture
def stand_in() -> Callable[..., "partial[StandInEngine]"]:
    """Make a loader of the stand-in engine; see its arguments."""
    return partial(partial, StandInEngine)


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., LabelJob]:
    """Describe a run into a store of its own with the stand-in engine."""

    def make(load: Callable[[], StandInEngine] = StandInEngine, store: str = "store") -> LabelJob:
        return LabelJob(
            store=str(tmp_path / store),
            s3=S3Settings(),
            limits=LimitSettings(query_characters=40),
            model_version=VERSION,
            settings_json=SETTINGS,
            load_engine=load,
        )

    return make
