"""The pool of replicas as the rest sees it: images go in, groups of shards come out to commit.

Ray is imported when the first image arrives, not before: a run with nothing to do starts nothing.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from queue import Empty, SimpleQueue

from pipeline.records import ImageTasks
from pipeline.storage.shards import Shard
from workers.actor import LabelJob
from workers.cluster import ray_session
from workers.settings import PoolSettings

IMAGES_PER_DATASET = 20_000
"""Images handed to Ray at a time, which bounds memory; replicas load their model once each time."""

COMMIT_SHARDS = 64
COMMIT_SECONDS = 15.0
POLL_SECONDS = 0.2


def predict_all(
    images: Iterable[ImageTasks], job: LabelJob, pool: PoolSettings, stop: threading.Event
) -> Iterator[list[Shard]]:
    """Label all images and yield shards in groups, each due for a commit.

    Once ``stop`` is set, the shards that have arrived are yielded and the rest is given up. On an
    error too, what has arrived is yielded before it is raised.

    Raises:
        ConfigError: the Ray cluster cannot be reached or cannot hold a replica.
        ModelUnusableError: the model cannot be used.
        StorageError: a shard cannot be written.
        StoppedError: Ray gave up.
    """
    waiting = iter(images)
    chunk = list(islice(waiting, IMAGES_PER_DATASET))
    if not chunk:
        return
    with ray_session(pool):
        from workers.dataset import SharedAttempts, label_images  # noqa: PLC0415

        attempts = SharedAttempts(pool.replicas)
        while chunk and not stop.is_set():
            yield from _groups(partial(label_images, chunk, job, pool, attempts), stop)
            chunk = list(islice(waiting, IMAGES_PER_DATASET))


def _groups(shards: Callable[[], Iterator[Shard]], stop: threading.Event) -> Iterator[list[Shard]]:
    """Yield what ``shards`` yields, in groups; it runs in a thread, so waiting can be ended."""
    arrived: SimpleQueue[Shard] = SimpleQueue()
    executor = ThreadPoolExecutor(1, thread_name_prefix="shards")
    feed = executor.submit(_pump, shards, arrived, stop)
    executor.shutdown(wait=False)  # a stopped run does not wait for a shard, it disconnects
    yield from _grouped(feed, arrived, stop)
    if not stop.is_set():
        feed.result()


def _pump(
    shards: Callable[[], Iterator[Shard]], arrived: "SimpleQueue[Shard]", stop: threading.Event
) -> None:
    for shard in shards():
        arrived.put(shard)
        if stop.is_set():
            return


def _grouped(
    feed: "Future[None]", arrived: "SimpleQueue[Shard]", stop: threading.Event
) -> Iterator[list[Shard]]:
    group: list[Shard] = []
    due = time.monotonic() + COMMIT_SECONDS
    ended = False
    while not ended:
        ended = feed.done() or stop.is_set()
        group += _take(arrived)
        if group and (ended or len(group) >= COMMIT_SHARDS or time.monotonic() >= due):
            yield group
            group, due = [], time.monotonic() + COMMIT_SECONDS


def _take(arrived: "SimpleQueue[Shard]") -> list[Shard]:
    """Wait a moment for a first shard, and take all that are there."""
    try:
        shards = [arrived.get(timeout=POLL_SECONDS)]
    except Empty:
        return []
    while not arrived.empty():
        shards.append(arrived.get())
    return shards
