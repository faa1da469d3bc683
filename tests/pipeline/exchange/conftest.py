"""A run over small pictures whose store holds the masks that a test chooses."""

import io
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline import masks
from pipeline.asked import Asked, AskedImage, asked_of
from pipeline.config import RunFile
from pipeline.exchange.export import Shaping
from pipeline.export_masks import ExportRequest, export_masks
from pipeline.import_masks import ImportRequest, ImportSummary, import_masks
from pipeline.masks import Mask
from pipeline.progress import Progress
from pipeline.records import Correction, Prediction, Timings
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.settings import S3Settings
from pipeline.storage.shards import write_shard
from pipeline.storage.store import Store, open_store
from pipeline.storage.tables import PredictionTables
from pipeline.versions import chosen_model

WIDTH, HEIGHT = 40, 30
Masks = Mapping[tuple[str, str], Mask | None]
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def rectangle(top: int, left: int, bottom: int, right: int) -> Mask:
    """Return a mask of the pictures' size with a rectangle in it."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
    mask[top:bottom, left:right] = True
    return mask


@dataclass
class Street:
    """Pictures ``a/one.png``, ``a/two.png`` and ``b/one.png``; labels road, sky and car.

    Masks are given by (picture, label); None says that there is nothing.
    """

    folder: Path
    run: RunFile

    @property
    def store(self) -> Store:
        """The run's store."""
        return open_store(self.run.store, S3Settings())

    @property
    def photos(self) -> Path:
        """The folder of the pictures."""
        return Path(self.run.source.images)

    def change(self, **changes: Any) -> "Street":
        """Return the same with other settings in the run file."""
        content = self.run.model_dump(exclude_unset=True) | changes
        return Street(self.folder, RunFile.model_validate(content))

    def run_file(self) -> str:
        """Write the run file and return its path."""
        path = self.folder / "run.yaml"
        path.write_text(self.run.model_dump_json(exclude_unset=True))
        return str(path)

    def asked(self, version: str | None = None) -> Asked:
        """Return all that the run asks."""
        model = chosen_model(self.run, self.store, version)
        return asked_of(
            self.run,
            model.version,
            model.settings_json,
            stop=threading.Event(),
            progress=Progress(io.StringIO()),
        )

    def image(self, name: str) -> AskedImage:
        """Return what is asked of a picture."""
        (found,) = [asked for asked in self.asked().images.values() if asked.name == name]
        return found

    def predict(self, answers: Masks, scores: Mapping[str, float] | None = None) -> None:
        """Commit predictions of the run's model, with a predicted IoU for each label."""
        rows = [
            _prediction(self.image(name), label, mask, (scores or {}).get(label, 0.5))
            for (name, label), mask in answers.items()
        ]
        tables = PredictionTables(self.store)
        tables.commit([write_shard(self.store, rows)])

    def correct(self, answers: Masks, minute: int = 0, **changes: Any) -> list[Correction]:
        """Append corrections of one annotator, edited unless told otherwise."""
        rows = [
            replace(_correction(self.image(name), label, mask, minute), **changes)
            for (name, label), mask in answers.items()
        ]
        assert CorrectionTable(self.store).append(rows) == len(rows)
        return rows

    def export(self, fmt: str, what: str = "predictions", **changes: Any) -> dict[str, Any]:
        """Export to the folder ``out``; return the manifest."""
        names = ("instances", "least", "tolerance", "val_share")
        chosen = {name: changes.pop(name) for name in names if name in changes}
        shaping = {"instances": False, "least": 1, "tolerance": 0.0, "val_share": 0.0} | chosen
        request = ExportRequest(
            what=what,  # type: ignore[arg-type]
            shaping=Shaping(format=fmt, **shaping),  # type: ignore[arg-type]
            out=changes.pop("out", self.out),
            complete=changes.pop("complete", False),
            images=changes.pop("images", False),
            replace=changes.pop("replace", False),
            version=changes.pop("version", None),
        )
        stop = changes.pop("stop", threading.Event())
        assert not changes
        manifest = export_masks(self.run, request, stop, Progress(io.StringIO()))
        assert json.loads((request.out / "export.json").read_text()) == manifest
        return manifest

    def bring(
        self, source: Path | str, target: str = "corrections", **changes: Any
    ) -> ImportSummary:
        """Import COCO unless told otherwise; return the summary."""
        request = ImportRequest(
            source=str(source),
            target=target,  # type: ignore[arg-type]
            format=changes.pop("fmt", "coco"),
            name=changes.pop("name", "old"),
            labels=changes.pop("labels", {}),
            exhaustive=changes.pop("exhaustive", False),
            partial=changes.pop("partial", False),
        )
        assert not changes
        return import_masks(self.run, request, threading.Event(), Progress(io.StringIO()))

    def corrections(self) -> dict[tuple[str, str], Correction]:
        """Return the latest corrections by picture and label."""
        names = {image: asked.name for image, asked in self.asked().images.items()}
        rows = CorrectionTable(self.store).latest()
        return {(names[row.image_id], row.label): row for row in rows}

    def predictions(self, version: str) -> dict[tuple[str, str], Prediction]:
        """Return the predictions of a version by picture and label."""
        asked = self.asked(version)
        names = {image: known.name for image, known in asked.images.items()}
        images = PredictionTables(self.store).read_by_image(asked.keys())
        return {(names[row.image_id], row.label): row for rows in images for row in rows}

    @property
    def out(self) -> Path:
        """Where exports go."""
        return self.folder / "out"


@pytest.fixture
def street(tmp_path: Path, repository: Path) -> Street:
    for name in ("a/one.png", "a/two.png", "b/one.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), (90, 90, 90)).save(path)
    labels: Sequence[str] = ("road", "sky", "car")
    content = {
        "name": "street",
        "store": str(tmp_path / "store"),
        "source": {
            "images": str(tmp_path / "photos"),
            "queries": [{"label": label, "text": f"the {label}"} for label in labels],
        },
        "model": str(repository / "configs" / "models" / "tiny"),
    }
    return Street(tmp_path, RunFile.model_validate(content))


def _prediction(asked: AskedImage, label: str, mask: Mask | None, score: float) -> Prediction:
    task = asked.task(label)
    assert task is not None
    return Prediction(
        key=task.key,
        id="",
        image_id=asked.image.id,
        image=asked.image.uri,
        image_size=asked.image.size,
        etag=asked.image.etag,
        group=asked.image.group,
        width=WIDTH,
        height=HEIGHT,
        label=label,
        query=task.query,
        present=mask is not None,
        answer="[SEG]" if mask is not None else "There is none.",
        seg_probability=0.9 if mask is not None else 0.1,
        seg_vectors=(),
        mask=masks.empty(HEIGHT, WIDTH) if mask is None else masks.encode(mask),
        points=(),
        predicted_iou=score if mask is not None else 0.0,
        stability=0.5,
        model_version="m1",
        timings=Timings(0, 0, 0, 0, 0),
    )


def _correction(asked: AskedImage, label: str, mask: Mask | None, minute: int) -> Correction:
    task = asked.task(label)
    assert task is not None
    return Correction(
        id=f"{asked.name} {label}",
        key=task.key,
        project=1,
        task=1,
        annotation=1,
        image_id=asked.image.id,
        image=asked.image.uri,
        etag=asked.image.etag,
        group=asked.image.group,
        width=WIDTH,
        height=HEIGHT,
        label=label,
        query=task.query,
        model_version="m1",
        arm="shown",
        verdict="absent" if mask is None else "edited",
        present=mask is not None,
        mask=masks.empty(HEIGHT, WIDTH) if mask is None else masks.encode(mask),
        points=(),
        iou=0.5,
        boundary_f=0.5,
        annotator="7",
        seconds=1.0,
        updated_at=_BEGIN + timedelta(minutes=minute),
    )
