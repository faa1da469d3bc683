"""Three refreshes under a fast clock: promoted, refused, and one that dies half way."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import pytest
import ray

from pipeline.candidates import current_version
from pipeline.config import RunFile, load_run_file
from pipeline.label import LabelRun
from pipeline.progress import Progress
from pipeline.records import Correction
from pipeline.refresh import RefreshReport, refresh_once
from pipeline.registry.registry import Registry
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import Store, open_store
from pipeline.storage.tables import PredictionTables
from tests.clocks import FastClock
from tests.e2e.learnable import BETTER, whole_pictures, write_learnable

QUERY = {"label": "all", "text": "everything"}
COUNT = 12
LEARNS = {**BETTER, "steps": 8, "rate": 1e-3}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"), S3Settings())


@pytest.fixture
def clock() -> FastClock:
    return FastClock(datetime(2026, 3, 1, 12, tzinfo=UTC))


@pytest.fixture
def said(tmp_path: Path, store: Store) -> list[Correction]:
    """What people will say: one correction for each of twelve pictures."""
    firsts = {row.image_id: row for row in whole_pictures(tmp_path / "photos", COUNT, store)}
    return [replace(row, label="all", query="everything") for row in firsts.values()]


@pytest.fixture
def connected(ray_nodes: str) -> Iterator[None]:
    ray.init(ray_nodes, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def run_with(
    tmp_path: Path, store: Store, repository: Path, train: dict, **more: object
) -> RunFile:
    settings = {"at_least": 3, "every": "1h", "relabel": 3}
    tiny = repository / "configs" / "models" / "tiny"
    path = write_learnable(tmp_path, store, tiny, train, [QUERY], refresh=settings, **more)
    return load_run_file(path)


def label(run: RunFile, store: Store) -> None:
    """Label everything with the first version."""
    current_version(run, store, Progress())
    LabelRun(run, None, Event(), Progress()).label()


def versions(store: Store, images: Sequence[str]) -> list[str]:
    """Return whose prediction is the latest of each image."""
    return [rows[0].model_version for rows in PredictionTables(store).latest(images)]


@pytest.mark.usefixtures("connected")
def test_three_refreshes(
    tmp_path: Path, store: Store, repository: Path, said: list[Correction], clock: FastClock
) -> None:
    def refresh(run: RunFile) -> RefreshReport:
        return refresh_once(run, clock=clock, stop=Event(), progress=Progress())

    run = run_with(tmp_path, store, repository, LEARNS)
    images = [row.image_id for row in said]
    label(run, store)
    table = CorrectionTable(store)
    base = Registry(store).current()
    assert base

    table.append(said[:2])
    early = refresh(run)
    assert (early.number, early.decision.learn, early.decision.new) == (None, False, 2)

    table.append(said[2:8])
    first = refresh(run)
    assert (first.number, first.promoted, first.decision.new) == (1, True, 8)
    assert first.gate
    assert first.relabeled
    assert (first.relabeled.images, first.relabeled.failed) == (3, 0)
    candidate = first.gate["candidate"]
    assert versions(store, images[:8]) == [base.version] * 8
    assert sorted(versions(store, images[8:])).count(candidate) == 3
