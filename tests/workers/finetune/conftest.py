"""A small training set of generated scenes, corrected by nobody but their own truth."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pipeline import masks
from pipeline.learning.freeze import Freezer
from pipeline.learning.settings import DataSettings
from pipeline.progress import Progress
from pipeline.records import Correction
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import ObjectReader, Store, open_store
from pipeline.storage.training_sets import Manifest
from workers.finetune.records import FinetuneJob
from workers.finetune.settings import TrainSettings
from workers.scenes import Scene, render
from workers.settings import LimitSettings

SIDE = 96


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tiny(repository: Path) -> Path:
    return repository / "configs" / "models" / "tiny"


def corrections(folder: Path, count: int, s3: S3Settings) -> list[Correction]:
    """Write scenes as pictures and return the truth about three queries of each."""
    rows = []
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        scene = render(77, index, max_side=SIDE)
        path = folder / f"{index:03d}.png"
        Image.fromarray(scene.image).save(path)
        info = ObjectReader(s3).head(path.as_uri())
        rows += [
            _correction(scene, number, info.uri, info.etag)
            for number in range(min(3, len(scene.queries)))
        ]
    return rows


def _correction(scene: Scene, number: int, uri: str, etag: str) -> Correction:
    query = scene.queries[number]
    height, width = scene.image.shape[:2]
    return Correction(
        id=f"{scene.index}-{number}",
        key="k",
        project=1,
        task=1,
        annotation=1,
        image_id=uri,
        image=uri,
        etag=etag,
        group=f"scene {scene.index}",
        width=width,
        height=height,
        label=f"thing {number}",
        query=query.text,
        model_version="m1",
        arm="shown",
        verdict="edited" if query.present else "absent",
        present=query.present,
        mask=masks.encode(scene.mask(query)),
        points=(),
        iou=0.5,
        boundary_f=0.5,
        annotator="7",
        seconds=1.0,
        updated_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"), S3Settings())


@pytest.fixture
def frozen(store: Store, tmp_path: Path) -> Manifest:
    """A frozen training set of six small pictures, with replay."""
    CorrectionTable(store).append(corrections(tmp_path / "photos", 6, store.s3))
    scenes = {"count": 5, "judged": 2, "side": SIDE}
    settings = DataSettings.model_validate({"replay": {"scenes": scenes}})
    return Freezer(store, settings, Progress()).freeze("", None)


@pytest.fixture
def settings() -> Callable[..., TrainSettings]:
    """Make settings of a very short training."""

    def make(**changes: Any) -> TrainSettings:
        small = {
            "steps": 4,
            "images_per_step": 2,
            "images_at_once": 1,
            "queries_per_image": 2,
            "loss_side": 48,
            "checkpoint_every": 1,
            "warmup": 0,
            "rate": 1e-3,
            "threads": 1,
        }
        return TrainSettings.model_validate({**small, **changes})

    return make


@pytest.fixture
def job(
    store: Store, frozen: Manifest, tiny: Path, settings: Callable[..., TrainSettings]
) -> Callable[..., FinetuneJob]:
    """Describe a job on the small training set."""

    def make(folder: str = "training/one", **changes: Any) -> FinetuneJob:
        return FinetuneJob(
            store=store.uri,
            s3=S3Settings(),
            limits=LimitSettings(),
            folder=folder,
            snapshot=frozen.name,
            start=str(tiny),
            models="models",
            settings=settings(**changes),
        )

    return make
