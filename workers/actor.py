"""A replica: one loaded engine that turns images with their queries into stored shards.

What goes wrong with one image or query becomes a :class:`~pipeline.records.Failure`. A broken
device, or anything nobody thought of, ends the process, so that Ray starts a fresh one; an image
that does so again is recorded as failed (see :mod:`workers.attempts`).
"""

import os
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import pyarrow as pa

from pipeline.errors import ModelUnusableError, ReadloopError
from pipeline.records import ImageTasks
from pipeline.storage.settings import S3Settings
from pipeline.storage.shards import Shard, write_shard
from pipeline.storage.store import ObjectReader, open_store
from workers.attempts import ALLOWED, LOADING, Attempt, Attempts
from workers.rows import report_to_table, tasks_from_table
from workers.settings import LimitSettings
from workers.steps import Engine, Fetched, Row, Trouble, failure, fetch, label_image

FETCH_THREADS = 16
BROKEN_EXIT_CODE = 70


@dataclass(frozen=True)
class LabelJob:
    """What every replica of a run is told; it is pickled.

    ``model_version`` and ``settings_json`` are those that the keys of the tasks were made with:
    a replica whose engine has others must not run.
    """

    store: str
    s3: S3Settings
    limits: LimitSettings
    model_version: str
    settings_json: str
    load_engine: Callable[[], Engine]


class Replica:
    """Labels batches. Several threads may call it: they fetch at once and predict in turn."""

    def __init__(self, job: LabelJob, attempts: Attempts) -> None:
        self._job = job
        self._attempts = attempts
        self._store = open_store(job.store, job.s3)
        self._reader = ObjectReader(job.s3)
        self._fetchers = ThreadPoolExecutor(FETCH_THREADS, thread_name_prefix="fetch")
        self._turn = threading.Lock()
        self._engine: Engine | None = None

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

        Raises:
            ModelUnusableError: the engine cannot be loaded, is not the one that the keys were
                made for, or ends its process whatever the image.
            StorageError: the shard cannot be written.
        """
        fetched = self._fetchers.map(self._fetch, images)
        with self._turn:
            engine = self._loaded()
            rows = [row for item in fetched for row in self._label_one(engine, item)]
        wanted = [task.key for image in images for task in image.tasks]
        assert [row.key for row in rows] == wanted, "exactly one row a task, in order"
        return write_shard(self._store, rows)

    def _fetch(self, work: ImageTasks) -> Fetched:
        return fetch(work, self._reader, self._job.limits)

    def _label_one(self, engine: Engine, item: Fetched) -> list[Row]:
        name, version = item.work.tasks[0].key, self._job.model_version
        attempt = self._begin(name, f"labeling {item.work.image.uri}")
        if attempt.number > ALLOWED:
            why = attempt.reason or "the process was killed, crashed or ran out of memory"
            trouble = Trouble("predict", f"ended its replica {ALLOWED} times: {why}", True)
            return [failure(item.work, task, trouble, version) for task in item.work.tasks]
        with _EndsProcess(self._attempts, name):
            rows = label_image(item, engine, self._job.limits, version)
        self._attempts.finish(name)
        return rows

    def _loaded(self) -> Engine:
        if self._engine is None:
            self._begin(LOADING, LOADING)
            with _EndsProcess(self._attempts, LOADING):
                self._engine = self._checked(self._job.load_engine())
            self._attempts.finish(LOADING)
        return self._engine

    def _checked(self, engine: Engine) -> Engine:
        found = (engine.version, engine.settings_json)
        expected = (self._job.model_version, self._job.settings_json)
        if found != expected:
            raise ModelUnusableError(
                f"the model is {found}, the run was planned for {expected}: "
                "its files changed in the meantime; run again"
            )
        return engine

    def _begin(self, name: str, doing: str) -> Attempt:
        attempt = self._attempts.begin(name)
        if attempt.hopeless:
            why = attempt.reason or "no reason is known; see Ray's logs, and mind the memory"
            raise ModelUnusableError(f"replicas end again and again, last while {doing}: {why}")
        return attempt


class _EndsProcess:
    """Ends the process on any error that is not meant for the user, after noting the reason."""

    def __init__(self, attempts: Attempts, name: str) -> None:
        self._attempts = attempts
        self._name = name

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave, or end the process without any clean-up that a broken device could hang."""
        if kind is None or issubclass(kind, ReadloopError):
            return
        traceback.print_exception(kind, error, trace)
        sys.stderr.flush()
        self._attempts.explain(self._name, f"{kind.__name__}: {error}")
        os._exit(BROKEN_EXIT_CODE)
