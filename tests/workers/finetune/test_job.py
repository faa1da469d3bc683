"""The job on Ray Train: a killed worker is replaced and changes nothing; errors come back."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import ray

from pipeline.errors import ConfigError, ModelUnusableError, PictureError, StoppedError
from pipeline.storage.store import Store
from workers.finetune.job import finetune
from workers.finetune.loop import read_result, train
from workers.finetune.parallel import World
from workers.finetune.records import FinetuneJob, StepReport

Jobs = Callable[..., FinetuneJob]


@pytest.fixture(scope="module", autouse=True)
def _connected(ray_nodes: str) -> Iterator[None]:
    ray.init(ray_nodes, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def training_workers() -> list[int]:
    """Process ids of the actors that train, on the nodes that this process started."""
    children = psutil.Process().children(recursive=True)
    return [child.pid for child in children if "RayTrainWorker" in " ".join(child.cmdline())]


def test_a_killed_worker_is_replaced_and_the_weights_are_those_of_an_undisturbed_job(
    store: Store, job: Jobs
) -> None:
    train(job("training/calm", steps=6), World(), lambda _: None)
    steps: list[int] = []

    def report(step: StepReport) -> None:
        steps.append(step.step)
        if len(steps) == 2:
            (pid,) = training_workers()
            os.kill(pid, signal.SIGKILL)

    result = finetune(job("training/killed", steps=6), threading.Event(), report)
    calm = read_result(store, "training/calm")
    assert calm
    assert result.version == calm.version
    assert sorted(set(steps)) == list(range(6))


def test_workers_that_die_too_often_end_the_job_and_it_can_go_on(job: Jobs) -> None:
    def report(step: StepReport) -> None:
        if step.step == 1:
            (pid,) = training_workers()
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(StoppedError, match="died too often"):
        finetune(job("training/mortal", steps=500, failures=0), threading.Event(), report)


def test_what_another_try_would_not_mend_ends_the_job(job: Jobs) -> None:
    broken = job("training/broken", losses={"ce": 1e38, "bce": 1e38, "dice": 1e38})
    with pytest.raises(ConfigError, match=r"finetune\.train\.rate"):
        finetune(broken, threading.Event(), lambda _: None)


def test_workers_for_which_there_is_no_room_are_not_waited_for(job: Jobs) -> None:
    many = {"workers": 4, "images_per_step": 4, "cpus": 0.25, "gpus": 1}
    for changes, field in (({"cpus": 99}, "cpus"), (many, "gpus")):
        with pytest.raises(ConfigError, match=rf"finetune\.train\.{field}: .* wants"):
            finetune(job(**changes), threading.Event(), lambda _: None)


def test_a_missing_model_ends_the_job(job: Jobs) -> None:
    with pytest.raises(ModelUnusableError, match="no such folder"):
        finetune(replace(job(), start="/nowhere"), threading.Event(), lambda _: None)


def test_a_picture_that_is_gone_ends_the_job(job: Jobs, tmp_path: Path) -> None:
    described = job("training/gone", scenes_share=0, dialogue_share=0)
    for path in (tmp_path / "photos").iterdir():
        path.unlink()
    with pytest.raises(PictureError, match="--fresh"):
        finetune(described, threading.Event(), lambda _: None)


def test_a_stop_keeps_the_states(store: Store, job: Jobs) -> None:
    stop = threading.Event()

    def report(step: StepReport) -> None:
        if step.step == 2:
            stop.set()

    with pytest.raises(StoppedError, match="run again"):
        finetune(job("training/stopped", steps=500), stop, report)
    assert list(store.list("training/stopped/states"))
