"""Bulk pre-annotation, from a run file to a table and a Label Studio project. The recipe.

Every step can be killed and the whole run started again: work is identified by its keys, rows
count once they are committed, and what a killed run left behind is adopted. Where the model is
``registry``, replicas move on to what becomes current meanwhile; the plan takes down which keys
these answers have.
"""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

from pydantic import SecretStr

from labelstudio.publishing.publish import PublishSummary, publish
from labelstudio.publishing.retractions import Retractions
from labelstudio.publishing.showing import Showing
from labelstudio.settings import LabelStudioSettings
from labelstudio.token import checked_token
from pipeline.config import RunFile
from pipeline.errors import ConfigError, InputError, StoppedError
from pipeline.plan import Plan
from pipeline.progress import Progress
from pipeline.records import Failure, ImageTasks
from pipeline.review.session import ReviewSession
from pipeline.sources.tasks import image_tasks
from pipeline.storage.shards import Shard
from pipeline.storage.store import open_store
from pipeline.storage.tables import PredictionTables
from pipeline.summary import Stages, Summary, summarize
from pipeline.swaps import Swaps
from pipeline.versions import chosen_model, current_of
from workers.actor import LabelJob
from workers.follow import Following, Preparer
from workers.pool import predict_all

Ask = Callable[[str, str], Iterator[ImageTasks]]
"""Makes the work for a model's version and settings."""


class LabelRun:
    """One run: what is asked, of which model, and the tables that the answers go to.

    ``ask`` makes other work than that of the run file's source. ``version`` chooses the
    predictions of another model version than the present one, to publish them; labeling with it
    has no model.

    Raises:
        ReadloopError: the store, the model or Label Studio cannot be used.
    """

    def __init__(
        self,
        run: RunFile,
        limit: int | None,
        stop: threading.Event,
        progress: Progress,
        ask: Ask | None = None,
        *,
        version: str | None = None,
    ) -> None:
        self.run = run
        self.stop = stop
        self.progress = progress
        self.stages = Stages()
        self._ask = ask or partial(
            image_tasks, run.source, run.s3, limit=limit, reword_share=run.review.reword_share
        )
        self._token = checked_token(run.labelstudio) if run.labelstudio else SecretStr("")
        self.store = open_store(run.store, run.s3)
        self.tables = PredictionTables(self.store)
        self.model = chosen_model(run, self.store, version)
        self._version = version
        self.plan = Plan(stop)
        self.swaps = Swaps(progress.say)

    def label(self) -> Summary:
        """Predict what is open, commit it, publish all, and say how the run stands."""
        began = time.monotonic()
        if self.run.labelstudio:
            Retractions(self.store).refuse(self.model.version)
        adopted = self.tables.adopt_orphans()
        if adopted:
            self.progress.say(f"took over {adopted} rows that a stopped run had finished")
        worked = self._predict()
        if self.stop.is_set():
            self.tables.adopt_orphans()
            raise StoppedError("stopped; what was labeled is committed, run again to go on")
        self.swaps.sum_up(self.model.version, self.plan)
        settings = self.run.labelstudio
        published = self._publish(settings) if settings else None
        return summarize(
            self.plan,
            self.tables.count(self.plan.keys),
            published,
            worked=worked,
            stages=self.stages,
            seconds=time.monotonic() - began,
        )

    def publish(self) -> PublishSummary:
        """Take the last step alone: publish all predictions there are of what is asked."""
        if self.run.labelstudio is None:
            raise ConfigError(f"run {self.run.name}: no 'labelstudio' part, so nowhere to publish")
        self.plan_all()
        if self._version is not None:
            self._check_there()
        return self._publish(self.run.labelstudio)

    def plan_all(self) -> None:
        """Take down in :attr:`plan` all that is asked, and do none of it."""
        for _ in self._open_work():
            pass

    def failures(self) -> Iterator[Failure]:
        """Yield why units of work have no prediction."""
        return self.tables.failures(self.plan.keys)

    def _check_there(self) -> None:
        """Make sure that there are predictions of a version that somebody typed."""
        outcome = self.tables.count(self.plan.keys)
        if not outcome.present + outcome.absent:
            raise InputError(
                f"{self.store.uri}: no predictions of version {self._version} for what run "
                f"{self.run.name} asks; check --version"
            )

    def _publish(self, settings: LabelStudioSettings) -> PublishSummary:
        opened = ReviewSession(
            self.run.review,
            self.store,
            self.tables,
            self.plan,
            model_version=self.model.version,
            say=self.progress.say,
        )
        self.progress.begin("images published")
        with self.stages.timed("publish"), opened as review:
            return publish(
                review.for_people(),
                run=self.run.name,
                settings=settings,
                token=self._token,
                store=self.store,
                s3=self.run.s3,
                labels=tuple(self.plan.labels),
                progress=self._advance,
                showing=Showing(review.score, review.arm, review.name),
            )

    def _predict(self) -> int:
        """Label and commit what is open; return how many images that were."""
        images = 0
        self.model.record(self.store)
        self.progress.begin("queries labeled")
        groups = predict_all(self._open_work(), self._job(), self.run.pool, self.stop)
        for shards in self.stages.timed_waits("label", groups):
            with self.stages.timed("commit"):
                self._commit(shards)
            images += sum(shard.images for shard in shards)
            self.progress.expect(self.plan.open)
            self.progress.advance(
                sum(shard.present + shard.absent + shard.failed for shard in shards)
            )
        self.progress.end()
        return images

    def _commit(self, shards: list[Shard]) -> None:
        for shard in shards:
            self.plan.move(shard.moved, self.tables.is_done)
            self.swaps.note(shard.change)
        self.tables.commit(shards)

    def _open_work(self) -> Iterator[ImageTasks]:
        asked = self._ask(self.model.version, self.model.settings_json)
        return self.plan.open_work(asked, self.tables.is_done, whole=self._following() is not None)

    def _following(self) -> Following | None:
        """Return how replicas follow the registry; None where the run names one model."""
        run, pool = self.run, self.run.pool
        look = current_of(run, self.store)
        if look is None or not pool.follow_seconds:
            return None
        return Following(look, Preparer(self.store.uri, run.s3, pool), pool.follow_seconds)

    def _job(self) -> LabelJob:
        run = self.run
        return LabelJob(
            store=self.store.uri,
            s3=run.s3,
            limits=run.limits,
            model_version=self.model.version,
            settings_json=self.model.settings_json,
            load_engine=self.model.loader(run.s3, run.pool),
            follow=self._following(),
        )

    def _advance(self, tasks: int) -> None:
        """Count published tasks, and leave between two batches when asked to stop."""
        self.progress.advance(tasks)
        if self.stop.is_set():
            raise StoppedError("stopped while publishing; run again to go on")
