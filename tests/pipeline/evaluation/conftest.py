"""Miniature sets in the published layouts, and predictions as a run would have stored them."""

import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.evaluation.exam import Exam
from pipeline.evaluation.metrics import Score
from pipeline.evaluation.samples import Mask, Sample
from pipeline.masks import encode
from pipeline.records import LabelTask, Prediction, Timings
from pipeline.storage.settings import S3Settings
from pipeline.storage.shards import Shard, write_shard
from pipeline.storage.store import open_store
from pipeline.storage.tables import PredictionTables

WIDTH, HEIGHT = 20, 10


def box(left: int, top: int, right: int, bottom: int) -> Mask:
    """A mask of the set's pictures: columns left to right and rows top to bottom, ends left out."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return mask


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 150)).save(path)


@dataclass
class ReferSet:
    """A set in REFER's files, written below ``root`` when asked to."""

    root: Path
    dataset: str = "refcoco"
    split_by: str = "unc"
    refs: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def add(self, image: int, segmentation: Any, *sentences: Any, split: str = "val") -> None:
        """Refer to one object by sentences, plain or with more fields than ``sent``."""
        number = len(self.refs)
        written = [
            {"sent": sent, "sent_id": n} if isinstance(sent, str) else sent
            for n, sent in enumerate(sentences)
        ]
        self.annotations.append(
            {"id": 100 + number, "image_id": image, "segmentation": segmentation, "category_id": 1}
        )
        self.refs.append(
            {
                "ref_id": number,
                "ann_id": 100 + number,
                "image_id": image,
                "category_id": 1,
                "split": split,
                "file_name": f"COCO_{image}_{number}.jpg",
                "sentences": written,
                "sent_ids": list(range(len(written))),
            }
        )

    def write(self) -> Path:
        """Write refs, instances and pictures; return the root."""
        folder = self.root / self.dataset
        folder.mkdir(parents=True, exist_ok=True)
        images = sorted({ref["image_id"] for ref in self.refs})
        names = {image: f"COCO_train2014_{image:012}.jpg" for image in images}
        for name in names.values():
            picture(self.root / "images" / "mscoco" / "images" / "train2014" / name)
        entries = [
            {"id": image, "file_name": name, "height": HEIGHT, "width": WIDTH}
            for image, name in names.items()
        ]
        instances = {"images": entries, "annotations": self.annotations, "categories": []}
        (folder / "instances.json").write_text(json.dumps(instances))
        (folder / f"refs({self.split_by}).p").write_bytes(pickle.dumps(self.refs, protocol=2))
        return self.root


@pytest.fixture
def refer(tmp_path: Path) -> Callable[..., ReferSet]:
    """Make a set that is still empty."""
    return lambda **settings: ReferSet(tmp_path / "sets", **settings)


@pytest.fixture
def reasonseg(tmp_path: Path) -> Callable[..., Path]:
    """Write one picture of ReasonSeg's ``val`` with its JSON; return the root."""

    def write(name: str, **annotation: Any) -> Path:
        image = tmp_path / "sets" / "ReasonSeg" / "val" / f"{name}.jpg"
        picture(image)
        image.with_suffix(".json").write_text(json.dumps(annotation))
        return tmp_path / "sets"

    return write


@dataclass
class Said:
    """What the stand-in model answers to a query."""

    mask: Mask
    answer: str = "It is [SEG]."


@pytest.fixture
def answered(tmp_path: Path) -> Callable[..., Shard]:
    """Write answers by query to a store as a replica would; they are not committed yet."""

    def write(exam: Exam, answers: dict[str, Said]) -> Shard:
        store = open_store(str(tmp_path / "store"), S3Settings())
        return write_shard(store, list(_rows(exam, answers)))

    return write


@pytest.fixture
def scored(tmp_path: Path, answered: Callable[..., Shard]) -> Callable[..., list[Score]]:
    """Store answers by query in a predictions table, read it back and score it."""

    def score(samples: Sequence[Sample], answers: dict[str, Said]) -> list[Score]:
        exam = Exam("set", samples)
        tables = PredictionTables(open_store(str(tmp_path / "store"), S3Settings()))
        tables.commit([answered(exam, answers)])
        keys = [task.key for work in exam.tasks("m1", "{}") for task in work.tasks]
        return list(exam.scores(tables.read_by_image(keys)))

    return score


def _rows(exam: Exam, answers: dict[str, Said]) -> Iterator[Prediction]:
    for work in exam.tasks("m1", "{}"):
        for task in work.tasks:
            yield _row(work.image.id, work.image.uri, task, answers[task.query])


def _row(image_id: str, uri: str, task: LabelTask, said: Said) -> Prediction:
    return Prediction(
        key=task.key,
        id=task.id,
        image_id=image_id,
        image=uri,
        image_size=1,
        etag="e",
        group="g",
        width=WIDTH,
        height=HEIGHT,
        label=task.label,
        query=task.query,
        present=bool(said.mask.any()),
        answer=said.answer,
        seg_probability=0.5,
        seg_vectors=(),
        mask=encode(said.mask),
        points=(),
        predicted_iou=0.5,
        stability=0.5,
        model_version="m1",
        timings=Timings(0, 0, 0, 0, 0),
    )


@pytest.fixture
def said() -> Callable[..., Said]:
    """Make an answer: the box (left, top, right, bottom), or a text without one."""

    def make(*edges: int, answer: str = "It is [SEG].") -> Said:
        return Said(box(*edges) if edges else box(0, 0, 0, 0), answer)

    return make
