"""The training loop of one worker. Who starts it, and how many there are, it does not know."""

import math
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from pipeline.errors import ConfigError, MissingError
from pipeline.storage.jobs import RESULT
from pipeline.storage.store import ObjectReader, Store, open_store
from pipeline.storage.training_sets import TrainingSets
from workers.finetune.building import build_model
from workers.finetune.curves import Curves
from workers.finetune.export import export
from workers.finetune.lessons import Lessons
from workers.finetune.loading import Loader, can_be_asked
from workers.finetune.parallel import (
    LOSSES,
    StepPart,
    World,
    gradients_kept,
    shares_of,
    spread,
    training_step,
)
from workers.finetune.records import FinetuneJob, FinetuneResult, StepReport
from workers.finetune.settings import TrainSettings
from workers.finetune.state import Checkpoints, TrainingState, build_optimizer, rate_at
from workers.models import local_folder
from workers.read.identity import fingerprint
from workers.read.tokenizer import ReadTokenizer
from workers.read.train import TrainingBatch

Report = Callable[[StepReport], None]


@dataclass(frozen=True, slots=True)
class _Worker:
    """What one worker holds while it trains."""

    job: FinetuneJob
    world: World
    store: Store
    start: Path
    lessons: Lessons
    loader: Loader
    state: TrainingState
    checkpoints: Checkpoints


def train(job: FinetuneJob, world: World, report: Report) -> None:
    """Train from where the job stands to its end, and store the new checkpoint.

    ``report`` is told of every step by the worker of rank 0. A job that is done does nothing.

    Raises:
        ConfigError: the loss is not a number.
        InputError: the training set or a picture of it cannot be used.
        CheckpointError: the model to begin with cannot be loaded.
        StorageError: a store failed.
    """
    store = open_store(job.store, job.s3)
    if store.exists(f"{job.folder}/{RESULT}"):
        if world.rank == 0:
            Checkpoints(store, job.folder, world).drop()  # a kill may have come in between
        return
    _set_up(job.settings)
    worker = _open(job, store, world)
    with closing(Curves(store, job.folder, worker.state.step)) as curves:
        _run(worker, curves, report)
    learned = worker.state.learned()
    if world.rank == 0:
        result = _finish(worker, learned)
        data = TypeAdapter(FinetuneResult).dump_json(result, indent=2)
        store.put(f"{job.folder}/{RESULT}", data)
        worker.checkpoints.drop()


def read_result(store: Store, folder: str) -> FinetuneResult | None:
    """Return what a job ended with, None while it has not."""
    try:
        data = store.get(f"{folder}/{RESULT}")
    except MissingError:
        return None
    return TypeAdapter(FinetuneResult).validate_json(data)


def run_step(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    parts: Sequence[StepPart],
    settings: TrainSettings,
    world: World,
) -> tuple[Tensor, float]:
    """Take one optimizer step over the parts of this worker.

    Returns:
        The weighted losses (6,) of the whole step, as :data:`LOSSES`, and the gradients' norm.
    """
    optimizer.zero_grad(set_to_none=True)
    sums = torch.zeros(len(LOSSES), device=world.device)
    for number, (part, shares) in enumerate(zip(parts, shares_of(parts, world), strict=True)):
        with gradients_kept(module, last=number == len(parts) - 1):
            losses = module(part.to(world.device), shares)
            losses.sum().backward()
        sums += losses.detach()
    learning = [weight for weight in module.parameters() if weight.requires_grad]
    norm = torch.nn.utils.clip_grad_norm_(learning, settings.clip_norm)
    optimizer.step()
    norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    return world.total(sums) / world.size, float(norm)


def peak_bytes(device: str) -> int:
    """Return the most memory that the accelerator, or without one this process, has held."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _set_up(settings: TrainSettings) -> None:
    cv2.setNumThreads(0)
    torch.backends.cudnn.allow_tf32 = False
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)


def _open(job: FinetuneJob, store: Store, world: World) -> _Worker:
    sets = TrainingSets(store)
    manifest = sets.named(job.snapshot)
    start = local_folder(job.start, job.s3)
    model = build_model(start, job.settings, world.device)
    prompt, tokenizer = model.settings.prompt, ReadTokenizer.from_folder(start)
    askable = partial(
        can_be_asked,
        characters=job.limits.query_characters,
        config=model.config,
        settings=prompt,
        tokenizer=tokenizer,
    )
    lessons = Lessons(manifest, sets.examples(manifest), job.settings, askable)
    loader = Loader(
        lessons,
        model.config,
        prompt,
        tokenizer,
        ObjectReader(job.s3),
        job.limits,
        job.settings,
        world.rank,
    )
    module = spread(training_step(model, len(lessons.read_out), job.settings), job.settings, world)
    state = TrainingState(module, build_optimizer(module, job.settings))
    checkpoints = Checkpoints(store, job.folder, world)
    checkpoints.restore(state)
    return _Worker(job, world, store, start, lessons, loader, state, checkpoints)


def _run(worker: _Worker, curves: Curves, report: Report) -> None:
    state, settings, world = worker.state, worker.job.settings, worker.world
    total = worker.lessons.steps
    for parts in worker.loader.steps(state.step, total):
        begun = time.monotonic()
        rate = _rate(state.step, worker.lessons, settings)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(_seed(settings.seed, state.step, world))
        losses, norm = run_step(state.module, state.optimizer, parts, settings, world)
        batches = [part.batch for part in parts if part.batch is not None]
        _count(state, batches, world, float(losses.sum()))
        state.seconds += time.monotonic() - begun
        if world.rank == 0:
            rows = sum(len(batch.labels) for batch in batches)
            seconds = time.monotonic() - begun
            row = StepReport(
                **dict(zip(LOSSES, losses.tolist(), strict=True)),
                step=state.step - 1,
                total=total,
                rate=rate,
                norm=norm,
                rows=rows,
                seconds=seconds,
            )
            curves.add(row)
            report(row)
        if state.step % settings.checkpoint_every == 0 and state.step < total:
            if world.rank == 0:
                curves.save()  # first: what a state is behind of is not taken again
            worker.checkpoints.save(state)
    if world.rank == 0:
        curves.save()


def _count(
    state: TrainingState, batches: Sequence[TrainingBatch], world: World, loss: float
) -> None:
    if not math.isfinite(loss):
        raise ConfigError(
            f"the loss is {loss} at step {state.step}; lower finetune.train.rate and run again"
        )
    counts = (
        sum(len(batch.image_hw) for batch in batches),
        sum(len(batch.labels) for batch in batches),
    )
    own = torch.tensor(counts, device=world.device)
    images, rows = world.total(own).tolist()
    state.step += 1
    state.images += int(images)
    state.rows += int(rows)
    state.loss = loss


def _finish(worker: _Worker, learned: dict[str, Tensor]) -> FinetuneResult:
    job, state = worker.job, worker.state
    peak = peak_bytes(worker.world.device)
    probe = worker.lessons.alone
    (first, *_), *_ = worker.loader.steps(probe, probe + 1)
    assert first.batch is not None, "from this step on there are lessons"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "model")
        check = export(worker.start, learned, job.settings, first.batch, folder)
        version = fingerprint(folder)
        worker.store.upload(f"{job.models}/{version}", folder)
    return FinetuneResult(
        version=version,
        start=job.start,
        snapshot=job.snapshot,
        steps=state.step,
        images=state.images,
        rows=state.rows,
        loss=state.loss,
        seconds=state.seconds,
        peak_bytes=peak,
        merge=check,
        refused=worker.lessons.refused,
    )


def _rate(step: int, lessons: Lessons, settings: TrainSettings) -> float:
    """Return a step's rate: the full one for the encoders alone, then it rises and falls."""
    alone = lessons.alone
    if step < alone:
        return settings.rate
    return rate_at(step - alone, lessons.steps - alone, settings)


def _seed(seed: int, step: int, world: World) -> int:
    """Return the seed of a worker's dropout in a step."""
    return (seed * 1_000_003 + step) * world.size + world.rank
