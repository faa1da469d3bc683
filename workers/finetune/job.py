"""The fine-tuning job on Ray Train: starts the workers, follows them, and replaces dead ones.

Ray Train keeps nothing of its own: states lie on the store, and whoever is started goes on from
the newest.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import pyarrow.fs
import ray.train
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from pipeline.errors import ReadloopError, StoppedError
from pipeline.storage.addresses import locate
from pipeline.storage.clients import S3Access
from pipeline.storage.store import Store, open_store
from workers.cluster import check_room
from workers.finetune.board import Board
from workers.finetune.loop import read_result, train
from workers.finetune.parallel import World
from workers.finetune.records import FinetuneJob, FinetuneResult, StepReport
from workers.finetune.settings import TrainSettings
from workers.read.errors import ReadError

_POLL_SECONDS = 0.5
_LEAVE_SECONDS = 60.0


def finetune(
    job: FinetuneJob, stop: threading.Event, report: Callable[[StepReport], None]
) -> FinetuneResult:
    """Train until the job is done, in a Ray session that is there; ``report`` gets every step.

    Raises:
        ConfigError: this machine has not what the workers want.
        ReadloopError: what a worker met that another try would not mend.
        StoppedError: ``stop`` was set, or the workers died too often; the states are kept.
    """
    store = open_store(job.store, job.s3)
    _check_room(job.settings)
    board = Board()
    executor = ThreadPoolExecutor(1, thread_name_prefix="finetune")
    running = executor.submit(_trainer(job, store, board).fit)
    executor.shutdown(wait=False)  # a stopped job does not wait for a step, it disconnects
    _follow(running, board, stop, report)
    board.raise_failure()
    with _told():
        running.result()
    result = read_result(store, job.folder)
    if result is None:
        raise StoppedError("the training ended without a result; run again to go on")
    return result


def _check_room(settings: TrainSettings) -> None:
    """Ray would wait for what is not there, without a word."""
    count = settings.workers
    who = f"{count} workers" if count > 1 else "a worker"
    check_room("finetune.train", who, count * settings.cpus, count * settings.gpus)


def _follow(
    running: "Future[Any]",
    board: Board,
    stop: threading.Event,
    report: Callable[[StepReport], None],
) -> None:
    ended = False
    while not ended:
        ended = running.done() or stop.wait(_POLL_SECONDS)
        for step in board.take():
            report(step)
    if stop.is_set() and not running.done():
        reason = "stopped while training; run again to go on from the last checkpoint"
        board.fail(StoppedError(reason))
        wait([running], _LEAVE_SECONDS)  # a thread inside of Ray does not survive a disconnection


@contextmanager
def _told() -> Iterator[None]:
    """Turn Ray's errors into one that says that nothing is lost."""
    try:
        yield
    except (RayError, TrainingFailedError) as error:
        raise StoppedError(
            f"the training's workers died too often ({_first_line(error)}); see Ray's logs, mind "
            "the memory, and run again to go on from the last checkpoint"
        ) from error


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def _trainer(job: FinetuneJob, store: Store, board: Board) -> TorchTrainer:
    settings = job.settings
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    resources = {"CPU": settings.cpus, **({"GPU": settings.gpus} if settings.gpus else {})}
    path, filesystem = _ray_storage(store, job.folder)
    return TorchTrainer(
        _work,
        train_loop_config={"job": job, "board": board},
        torch_config=TorchConfig(backend="nccl" if settings.gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=settings.workers,
            use_gpu=settings.gpus > 0,
            resources_per_worker=resources,
        ),
        run_config=RunConfig(
            name="ray",
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=settings.failures),
        ),
    )


def _work(config: dict[str, Any]) -> None:
    """Be one worker."""
    job: FinetuneJob = config["job"]
    board: Board = config["board"]
    if board.failed():
        return
    context = ray.train.get_context()
    world = World(context.get_world_rank(), context.get_world_size(), str(get_device()))
    try:
        train(job, world, board.step_unless_failed)
    except (ReadloopError, ReadError) as error:
        board.fail(error)
        if world.size > 1:  # the others wait for this one: Ray has to end them
            raise


def _ray_storage(store: Store, folder: str) -> tuple[str, pyarrow.fs.FileSystem | None]:
    """Return where Ray Train may put its few files, and how it gets there."""
    place = locate(store.uri).child(folder)
    if place.local:
        return str(place.local), None
    access = S3Access(store.s3)
    credential = access.credential()
    filesystem = pyarrow.fs.S3FileSystem(
        access_key=credential["access_key_id"],
        secret_key=credential["secret_access_key"],
        session_token=credential.get("token"),
        region=access.region,
        endpoint_override=access.endpoint,
        scheme="http" if access.allow_http else "https",
    )
    return f"{place.bucket}/{place.path}", filesystem
