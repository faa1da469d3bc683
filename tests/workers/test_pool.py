"""The pool on two local Ray nodes with a pretended GPU each."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
import ray
from ray import cloudpickle

from pipeline.errors import ModelUnusableError
from pipeline.records import ImageTasks, Prediction, Timings
from pipeline.storage.shards import Shard
from pipeline.storage.store import open_store
from pipeline.storage.tables import PredictionTables
from tests.tables import all_predictions
from workers.actor import LabelJob
from workers.pool import predict_all
from workers.settings import PoolSettings

MakeImages = Callable[..., list[ImageTasks]]
MakeJob = Callable[..., LabelJob]

TWO = PoolSettings(replicas=2, gpus=1, cpus=1, images_per_batch=2)


@pytest.fixture(scope="module", autouse=True)
def _connected(ray_nodes: str) -> Iterator[None]:
    ray.init(ray_nodes, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def commit_all(job: LabelJob, groups: Iterator[list[Shard]]) -> dict[str, Prediction]:
    """Commit groups of shards and return the predictions by key, without their timings."""
    store = open_store(job.store, job.s3)
    tables = PredictionTables(store)
    for group in groups:
        tables.commit(group)
    rows = all_predictions(store)
    assert len({row.key for row in rows}) == len(rows)
    return {row.key: replace(row, timings=Timings(0, 0, 0, 0, 0)) for row in rows}


def test_a_killed_replica_changes_nothing_in_the_table(
    images: MakeImages, job: MakeJob, tmp_path: Path, stand_in: Callable[..., partial]
) -> None:
    work = images(24, "bright", "no such thing")
    births = tmp_path / "births"
    births.mkdir()
    calm = job(stand_in(), "calm")
    undisturbed = commit_all(calm, predict_all(work, calm, TWO, threading.Event()))

    rough = job(stand_in(births=births, delay=0.1), "rough")
    killer = threading.Thread(target=_kill_one, args=(births, tmp_path / "rough"))
    killer.start()
    disturbed = commit_all(rough, predict_all(work, rough, TWO, threading.Event()))
    killer.join()
    assert len(list(births.iterdir())) == 3, "two replicas, and one in place of the killed one"
    assert len({birth.read_text() for birth in births.iterdir()}) == 2, "on both nodes"
    assert disturbed == undisturbed
    assert disturbed.keys() == {task.key for image in work for task in image.tasks}


def _kill_one(births: Path, store: Path) -> None:
    """Wait until both replicas live and a shard is written; then kill one of them."""
    while len(list(births.iterdir())) < 2 or not list(store.glob("shards/*/*.parquet")):
        time.sleep(0.02)
    os.kill(int(next(births.iterdir()).name), signal.SIGKILL)


def test_an_image_that_kills_its_replica_is_recorded_and_the_rest_is_labeled(
    images: MakeImages, job: MakeJob, stand_in: Callable[..., partial]
) -> None:
    *fine, poison = images(5, "bright")
    deadly = replace(poison, tasks=(replace(poison.tasks[0], query="die"),))
    asked = job(stand_in())
    predictions = commit_all(asked, predict_all([*fine, deadly], asked, TWO, threading.Event()))
    assert predictions.keys() == {work.tasks[0].key for work in fine}
    (failure,) = PredictionTables(open_store(asked.store, asked.s3)).failures([poison.tasks[0].key])
    assert (failure.stage, failure.retryable) == ("predict", True)
    assert "ended its replica 2 times" in failure.reason


def test_a_model_that_cannot_be_loaded_ends_the_run(images: MakeImages, job: MakeJob) -> None:
    asked = job(_refuse)
    with pytest.raises(ModelUnusableError, match="no weights at all"):
        list(predict_all(images(3, "bright"), asked, TWO, threading.Event()))


def _refuse() -> NoReturn:
    raise ModelUnusableError("no weights at all")


cloudpickle.register_pickle_by_value(sys.modules[__name__])
