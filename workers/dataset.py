"""One Ray Data job: images go in as blocks, an actor pool labels them, shards come out.

Placement, back-pressure and restarts are Ray's. Nothing here drops rows: a replica that dies gets
its batch again, and only a bug can raise.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.data import ActorPoolStrategy, DataContext

from pipeline.errors import StoppedError
from pipeline.records import ImageTasks
from pipeline.storage.shards import Shard
from workers.actor import LabelJob, Replica
from workers.attempts import Attempt, AttemptBook
from workers.rows import shards_from_table, tasks_to_table
from workers.settings import PoolSettings

CALLS_PER_REPLICA = 2
"""Batches a replica works on at once: one predicts while the other fetches its images."""

PATIENCE_PER_REPLICA = 4
PATIENCE = 10
WAIT_FOR_EVER = -1


class SharedAttempts:
    """An :class:`AttemptBook` in a Ray actor of its own; copies of this object reach the same."""

    def __init__(self, replicas: int) -> None:
        patience = PATIENCE + PATIENCE_PER_REPLICA * replicas
        self._book: Any = ray.remote(num_cpus=0)(AttemptBook).remote(patience)

    def begin(self, name: str) -> Attempt:
        """Count an attempt. One round trip, about a millisecond."""
        attempt: Attempt = ray.get(self._book.begin.remote(name))
        return attempt

    def explain(self, name: str, reason: str) -> None:
        """Keep a reason; returns when it is kept, because the process is about to end."""
        ray.get(self._book.explain.remote(name, reason))

    def finish(self, name: str) -> None:
        """Forget an image; does not wait."""
        self._book.finish.remote(name)


def label_images(
    images: Sequence[ImageTasks], job: LabelJob, pool: PoolSettings, attempts: SharedAttempts
) -> Iterator[Shard]:
    """Yield the shards of these images in the order in which they are written.

    Raises:
        ModelUnusableError: the model cannot be used.
        StorageError: a shard cannot be written.
        StoppedError: Ray gave up, or was shut down.
    """
    _set_up()
    step = pool.images_per_batch
    blocks = [tasks_to_table(images[at : at + step]) for at in range(0, len(images), step)]
    reports = ray.data.from_arrow(blocks).map_batches(
        Replica,
        fn_constructor_args=(job, attempts),
        batch_size=pool.images_per_batch,
        batch_format="pyarrow",
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
        compute=ActorPoolStrategy(
            size=pool.replicas,
            max_concurrent_calls_per_actor=CALLS_PER_REPLICA,
            enable_true_multi_threading=True,
        ),
    )
    try:
        # without prefetching: a shard is told when it is there, not when the next one is
        for table in reports.iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=0
        ):
            yield from shards_from_table(table)
    except ray.exceptions.RayError as error:
        raise StoppedError(f"Ray ended the run, start it again to go on: {error}") from error


def _set_up() -> None:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = WAIT_FOR_EVER
    logging.getLogger("ray.data").setLevel(logging.ERROR)
