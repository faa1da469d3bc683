"""A run whose predictions and corrections are simulated: every picture has a score and a truth."""

import hashlib
import io
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.calibrate import calibrate
from pipeline.config import RunFile
from pipeline.label import LabelRun
from pipeline.masks import encode
from pipeline.progress import Progress
from pipeline.records import Arm, Correction, Point, Prediction, Timings
from pipeline.review.report import CalibrationReport
from pipeline.review.session import ReviewSession
from pipeline.sources.tasks import image_tasks
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.shards import write_shard

Quality = Callable[[str], float]
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def score_of(name: str) -> float:
    """A number in [0, 1] that looks random: how sure the simulated model is of a picture."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 16**8


def make_prediction(**changes: Any) -> Prediction:
    mask = np.zeros((10, 20), bool)
    mask[2:8, 5:15] = True
    row = Prediction(
        key="k",
        id="",
        image_id="i",
        image="file:///i.png",
        image_size=1,
        etag="e",
        group="g",
        width=20,
        height=10,
        label="road",
        query="the road",
        present=True,
        answer="[SEG]",
        seg_probability=1.0,
        seg_vectors=((0.0,) * 256,),
        mask=encode(mask),
        points=(Point(10.0, 5.0, 1, 1.0), Point(1.0, 1.0, 0, 0.0)),
        predicted_iou=1.0,
        stability=1.0,
        model_version="m",
        timings=Timings(0, 0, 0, 0, 0),
    )
    return replace(row, **changes)


@dataclass
class Simulation:
    """A labeled run of ``count`` pictures, one query each."""

    folder: Path
    model: Path
    count: int
    review: dict[str, Any] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def run_file(self) -> RunFile:
        """Return the run's settings."""
        query = {"label": "road", "text": "the road", "wordings": ["a street"]}
        return RunFile.model_validate(
            {
                "name": "simulated",
                "store": str(self.folder / "store"),
                "source": {"images": str(self.folder / "photos"), "queries": [query]},
                "model": str(self.model),
                "review": {"reword_share": 0, **self.review},
            }
        )

    def open(self) -> LabelRun:
        """Open the run with its plan made."""
        run = LabelRun(self.run_file(), None, threading.Event(), Progress(io.StringIO()))
        run.plan_all()
        return run

    def label(self) -> None:
        """Write the pictures and what the model is sure of: SAM's IoU is a picture's score."""
        (self.folder / "photos").mkdir(parents=True)
        for number in range(self.count):
            Image.new("RGB", (20, 10)).save(self.folder / "photos" / f"{number:04d}.png")
        run = self.open()
        asked = run.run.source, run.run.s3, run.model.version, run.model.settings_json
        write_shard(run.store, [self._prediction(run, *task) for task in self.tasks(asked)])
        run.tables.adopt_orphans()

    def tasks(self, asked: Any) -> Iterator[tuple[Any, Any]]:
        """Yield every image of the run with each of its tasks."""
        for work in image_tasks(*asked, reword_share=self.run_file().review.reword_share):
            for task in work.tasks:
                yield work.image, task

    def _prediction(self, run: LabelRun, image: Any, task: Any) -> Prediction:
        return make_prediction(
            key=task.key,
            image_id=image.id,
            image=image.uri,
            group=image.group,
            etag=image.etag,
            label=task.label,
            query=task.query,
            predicted_iou=score_of(Path(image.uri).name) ** 4,  # hand_made is the fourth root
            model_version=run.model.version,
        )

    def predictions(self) -> list[Prediction]:
        """Return what the model says, other wordings left out."""
        run = self.open()
        return [row for rows in run.tables.read_by_image(run.plan.keys) for row in rows]

    def correct(
        self,
        rows: Sequence[Prediction],
        quality: Quality,
        *,
        arm: Callable[[Prediction], Arm] = lambda _: "shown",
        seconds: float = 10.0,
        at: datetime = BEGIN,
    ) -> None:
        """Let people correct predictions: ``quality`` is the IoU that they find, by picture."""
        CorrectionTable(self.open().store).append(
            [
                self._correction(row, quality(Path(row.image).name), arm(row), seconds, at)
                for row in rows
            ]
        )

    @staticmethod
    def _correction(
        row: Prediction, iou: float, arm: Arm, seconds: float, at: datetime
    ) -> Correction:
        return Correction(
            id=f"annotation of {row.key}",
            key=row.key,
            project=1,
            task=1,
            annotation=1,
            image_id=row.image_id,
            image=row.image,
            etag=row.etag,
            group=row.group,
            width=row.width,
            height=row.height,
            label=row.label,
            query=row.query,
            model_version=row.model_version,
            arm=arm,
            verdict="edited",
            present=True,
            mask=row.mask,
            points=(),
            iou=iou,
            boundary_f=iou,
            annotator="7",
            seconds=seconds if arm == "shown" else 4 * seconds,
            updated_at=at + timedelta(minutes=1),
        )

    def calibrate(self) -> CalibrationReport:
        """Fit what people have said so far."""
        return calibrate(self.run_file(), threading.Event(), Progress(io.StringIO()))

    def publish(self) -> tuple[list[str], ReviewSession]:
        """Go through what publishing would send; return the pictures' names and the session."""
        run = self.open()
        session = ReviewSession(
            run.run.review,
            run.store,
            run.tables,
            run.plan,
            model_version=run.model.version,
            say=self.said.append,
        )
        with session:
            sent = [Path(rows[0].image).name for rows in session.for_people()]
        return sent, session


@pytest.fixture
def simulation(tmp_path: Path, repository: Path) -> Callable[..., Simulation]:
    """Return a maker of labeled runs: ``simulation(300, accept=True)``."""

    def make(count: int, **review: Any) -> Simulation:
        made = Simulation(tmp_path, repository / "configs" / "models" / "tiny", count, review)
        made.label()
        return made

    return make
