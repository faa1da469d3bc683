"""A label run on local Ray nodes whose model is promoted away in the middle of it."""

import io
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray

from pipeline.config import RunFile
from pipeline.label import LabelRun
from pipeline.progress import Progress
from pipeline.records import ImageTasks, Prediction
from pipeline.sources.tasks import image_tasks
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import Store, open_store
from tests.tables import all_predictions
from tests.versions import IOU_SHIFT, less_sure, make_current, record
from workers.scenes import write_scenes

IMAGES = 16
QUERIES = ("the star", "the circle")


@pytest.fixture(scope="module", autouse=True)
def _connected(ray_nodes: str) -> Iterator[None]:
    ray.init(ray_nodes, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@dataclass
class Runs:
    """Label runs of one store whose registry holds two versions, the first of them current."""

    file: RunFile
    store: Store
    first: str
    second: str
    said: io.StringIO

    def open(self) -> LabelRun:
        """Open a run over all pictures."""
        return LabelRun(self.file, None, threading.Event(), Progress(self.said))

    def asked(self, run: LabelRun, version: str) -> list[ImageTasks]:
        """Return all work with the keys of a version."""
        settings = run.model.settings_json
        return list(image_tasks(self.file.source, S3Settings(), version, settings))

    def rows(self) -> dict[str, list[Prediction]]:
        """Return all rows there are, by image."""
        by_image = defaultdict(list)
        for row in all_predictions(self.store):
            by_image[row.image_id].append(row)
        return by_image

    def once_a_shard_is_written(self, act: Callable[[], object]) -> threading.Thread:
        """Start a thread that acts once a replica has written its first shard."""
        shards = Path(self.store.uri.removeprefix("file://"), "shards")

        def wait() -> None:
            while not list(shards.glob("*/*.parquet")):
                time.sleep(0.01)
            act()

        thread = threading.Thread(target=wait, daemon=True)  # a run that fails writes none
        thread.start()
        return thread


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(11, IMAGES, folder)
    return folder / "images"


@pytest.fixture
def runs(pictures: Path, tmp_path: Path, repository: Path) -> Runs:
    tiny = repository / "configs" / "models" / "tiny"
    store = open_store(str(tmp_path / "store"), S3Settings())
    first = record(store, tiny)
    second = record(store, less_sure(tiny, tmp_path / "second"))
    make_current(store, first)
    file = RunFile.model_validate(
        {
            "name": "test",
            "store": str(tmp_path / "store"),
            "source": {"images": str(pictures), "queries": [{"text": text} for text in QUERIES]},
            "model": "registry",
            "pool": {"replicas": 2, "images_per_batch": 1, "follow_seconds": 0.2},
        }
    )
    return Runs(file, store, first, second, io.StringIO())


def test_a_promotion_in_the_middle_of_a_run_loses_doubles_and_mixes_nothing(runs: Runs) -> None:
    run = runs.open()
    promoting = runs.once_a_shard_is_written(lambda: make_current(runs.store, runs.second))
    summary = run.label()
    promoting.join()
    counts = (summary.images, summary.queries, summary.present + summary.absent, summary.failed)
    assert counts == (IMAGES, IMAGES * len(QUERIES), IMAGES * len(QUERIES), 0)
    assert summary.skipped == 0

    by_image = runs.rows()
    version_of = {image: {row.model_version for row in rows} for image, rows in by_image.items()}
    assert all(len(versions) == 1 for versions in version_of.values()), "no image is mixed"
    made_by = {image: versions.pop() for image, versions in version_of.items()}
    assert set(made_by.values()) == {runs.first, runs.second}
    for version in (runs.first, runs.second):
        for work in runs.asked(run, version):
            if made_by[work.image.id] == version:
                keys = [row.key for row in by_image[work.image.id]]
                assert sorted(keys) == sorted(task.key for task in work.tasks)
    shown = [row for rows in run.tables.read_by_image(run.plan.keys) for row in rows]
    assert len(shown) == len(run.plan.keys) == IMAGES * len(QUERIES)
    said = runs.said.getvalue()
    assert said.count(f"move on to {runs.second}") == 1
    assert {change.before for change in run.swaps.changes} == {runs.first}
    assert all(change.pause > 0 for change in run.swaps.changes)

    again = runs.open()
    assert again.model.version == runs.second
    summary = again.label()
    old = sum(version == runs.first for version in made_by.values())
    assert summary.skipped == (IMAGES - old) * len(QUERIES)
    assert summary.present + summary.absent == IMAGES * len(QUERIES)
    assert sum(map(len, runs.rows().values())) == (IMAGES + old) * len(QUERIES)
    assert_made_by_the_version_they_name(runs)
    assert runs.open().label().skipped == IMAGES * len(QUERIES)


def assert_made_by_the_version_they_name(runs: Runs) -> None:
    """Compare the answers of both versions where both answered: they differ by the shift."""
    compared = 0
    for rows in runs.rows().values():
        for query in QUERIES:
            iou = {row.model_version: row.predicted_iou for row in rows if row.query == query}
            present = all(row.present for row in rows if row.query == query)
            if len(iou) == 2 and present:
                compared += 1
                gain = iou[runs.second] - iou[runs.first]
                assert gain == pytest.approx(IOU_SHIFT, abs=0.02)
    assert compared


def test_an_image_that_was_half_done_is_answered_whole_by_the_newer_version(runs: Runs) -> None:
    alone = runs.file.source.model_copy(update={"queries": runs.file.source.queries[:1]})
    before = runs.file.model_copy(update={"source": alone})
    done = LabelRun(before, None, threading.Event(), Progress(runs.said)).label()
    assert done.queries == IMAGES
    run = runs.open()
    promoting = runs.once_a_shard_is_written(lambda: make_current(runs.store, runs.second))
    summary = run.label()
    promoting.join()
    assert summary.present + summary.absent == summary.queries == IMAGES * len(QUERIES)
    shown = list(run.tables.read_by_image(run.plan.keys))
    versions = [{row.model_version for row in rows} for rows in shown]
    assert all(len(one) == 1 for one in versions)
    newer = sum(one == {runs.second} for one in versions)
    assert 0 < newer < IMAGES
    assert summary.skipped == IMAGES - newer
    assert all(len(rows) == len(QUERIES) for rows in shown)


def test_a_bad_promotion_does_not_end_a_run(runs: Runs) -> None:
    weights = Path(runs.store.uri.removeprefix("file://"), "models", runs.second)
    (weights / "tokenizer.model").unlink()
    run = runs.open()
    promoting = runs.once_a_shard_is_written(lambda: make_current(runs.store, runs.second))
    summary = run.label()
    promoting.join()
    assert summary.present + summary.absent == IMAGES * len(QUERIES)
    assert {row.model_version for rows in runs.rows().values() for row in rows} == {runs.first}
    assert runs.said.getvalue().count("cannot be used") == 1
    assert "tokenizer.model" in runs.said.getvalue()


def test_a_run_that_names_its_model_stays_with_it(runs: Runs, repository: Path) -> None:
    tiny = str(repository / "configs" / "models" / "tiny")
    runs.file = runs.file.model_copy(update={"model": tiny})
    make_current(runs.store, runs.second)
    run = runs.open()
    assert run.label().queries == IMAGES * len(QUERIES)
    assert {row.model_version for rows in runs.rows().values() for row in rows} == {runs.first}
    assert run.swaps.changes == []
