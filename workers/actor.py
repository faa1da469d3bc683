"""A replica: one loaded engine that turns images with their queries into stored shards.

What goes wrong with one image or query becomes a :class:`~pipeline.records.Failure`. A broken
device, or anything nobody thought of, ends the process, so that Ray starts a fresh one; an image
that does so again is recorded as failed (see :mod:`workers.attempts`). Between two batches a
replica may move on to the model that is current by then (see :mod:`workers.replica_engine`).
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pyarrow as pa

from pipeline.errors import ReadloopError
from pipeline.records import ImageRef, ImageTasks, LabelTask, Query, task_key
from pipeline.storage.settings import S3Settings
from pipeline.storage.shards import Shard, write_shard
from pipeline.storage.store import ObjectReader, open_store
from workers.attempts import ALLOWED, Attempts
from workers.follow import Following
from workers.guard import EndsProcess, begin
from workers.replica_engine import ReplicaEngine
from workers.rows import report_to_table, tasks_from_table
from workers.settings import LimitSettings
from workers.steps import Engine, Fetched, Row, Trouble, failure, fetch, label_image

FETCH_THREADS = 16


@dataclass(frozen=True)
class LabelJob:
    """What every replica of a run is told; it is pickled.

    ``model_version`` and ``settings_json`` are those that the keys of the tasks were made with:
    a replica whose engine has others must not run, unless it was told to ``follow`` the current
    version. Then rows get keys of the version that makes them.
    """

    store: str
    s3: S3Settings
    limits: LimitSettings
    model_version: str
    settings_json: str
    load_engine: Callable[[], Engine]
    follow: Following | None = None


class Replica:
    """Labels batches. Several threads may call it: they fetch at once and predict in turn."""

    def __init__(self, job: LabelJob, attempts: Attempts) -> None:
        self._job = job
        self._attempts = attempts
        self._store = open_store(job.store, job.s3)
        self._reader = ObjectReader(job.s3)
        self._fetchers = ThreadPoolExecutor(FETCH_THREADS, thread_name_prefix="fetch")
        self._turn = threading.Lock()
        self._planned = (job.model_version, job.settings_json)
        self._engine = ReplicaEngine(job.load_engine, self._planned, job.follow, attempts)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Label the images of a batch and report their shard, or why the run has to end.

        Both tables are those of :mod:`workers.rows`. An exception would do for the second, but
        Ray Data rewrites its message.
        """
        try:
            return report_to_table(self.label(tasks_from_table(batch)))
        except ReadloopError as error:
            return report_to_table(error)

    def label(self, images: Sequence[ImageTasks]) -> Shard:
        """Label images, write their rows as one shard and return it.

        One engine answers the whole batch. If it is a newer one than planned, it also answers what
        was done of these images, and the shard says which keys have moved.

        Raises:
            ModelUnusableError: the engine cannot be loaded, is not the one that the keys were
                made for, or ends its process whatever the image.
            StorageError: the shard cannot be written.
        """
        fetched = self._fetchers.map(self._fetch, images)
        found = self._engine.look()
        with self._turn:
            engine, change = self._engine.take(images[0].tasks[0].key, found)
            works, moved = self._work_for(engine, images)
            pairs = zip(fetched, works, strict=True)
            rows = [row for item, work in pairs for row in self._label_one(engine, item, work)]
        wanted = [task.key for work in works for task in work.tasks]
        assert [row.key for row in rows] == wanted, "exactly one row a task, in order"
        return replace(write_shard(self._store, rows), moved=moved, change=change)

    def _work_for(
        self, engine: Engine, images: Sequence[ImageTasks]
    ) -> tuple[list[ImageTasks], tuple[tuple[str, str], ...]]:
        """Return the images with the tasks for an engine to answer, and the keys that moved."""
        if (engine.version, engine.settings_json) == self._planned:
            return list(images), ()
        works, moved = [], []
        for work in images:
            asked = (*work.done, *work.tasks)
            tasks = tuple(_renewed(work.image, task, engine) for task in asked)
            moved += [(old.key, new.key) for old, new in zip(asked, tasks, strict=True)]
            works.append(ImageTasks(work.image, tasks))
        return works, tuple(moved)

    def _fetch(self, work: ImageTasks) -> Fetched:
        return fetch(work, self._reader, self._job.limits)

    def _label_one(self, engine: Engine, fetched: Fetched, work: ImageTasks) -> list[Row]:
        name, version = work.tasks[0].key, engine.version
        attempt = begin(self._attempts, name, f"labeling {work.image.uri}")
        if attempt.number > ALLOWED:
            why = attempt.reason or "the process was killed, crashed or ran out of memory"
            trouble = Trouble("predict", f"ended its replica {ALLOWED} times: {why}", True)
            return [failure(work, task, trouble, version) for task in work.tasks]
        with EndsProcess(self._attempts, name):
            item = replace(fetched, work=work)
            rows = label_image(item, engine, self._job.limits, version)
        self._attempts.finish(name)
        return rows


def _renewed(image: ImageRef, task: LabelTask, engine: Engine) -> LabelTask:
    """Return a task with the key that an engine's answer to it has."""
    query = Query(task.label, task.query, task.form)
    return replace(task, key=task_key(image, query, engine.version, engine.settings_json))
