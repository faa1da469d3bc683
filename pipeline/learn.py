"""From corrections to a better model, only if it is better. The recipe.

Every step leaves its result on the store, and a step whose result is there is not done again:
killed anywhere and started again, it goes on where it stopped.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from pydantic import TypeAdapter

from pipeline.candidates import current_version, record_candidate
from pipeline.compare import Comparison
from pipeline.config import RunFile
from pipeline.errors import PictureError
from pipeline.learning.freeze import Freezer
from pipeline.learning.gate import Decision, Stored, Trial, decide
from pipeline.progress import Progress
from pipeline.registry.lineage import Pointer
from pipeline.registry.registry import FOLDER, Registry
from pipeline.storage.jobs import JOBS, MARKER, STALE
from pipeline.storage.store import open_store
from pipeline.storage.training_sets import Manifest, TrainingSets
from workers.cluster import ray_session
from workers.finetune.records import FinetuneJob, FinetuneResult, StepReport

_TOLD = 10  # times that a training tells its loss, about


def _nothing_forbids() -> None:
    """Let every promotion be."""


class Learning:
    """One way of a store's model from corrections to a decision.

    ``fresh`` freezes a new training set even if an earlier one's training is not done, and trains
    even if the current version has learned all of it; ``after`` leaves an earlier one's training
    too, if its number is not above. ``stop`` ends it between two batches.
    ``check`` is called before a version is promoted; what it raises keeps it from that.
    """

    def __init__(
        self,
        run: RunFile,
        *,
        fresh: bool,
        stop: threading.Event,
        progress: Progress,
        after: int = 0,
        check: Callable[[], None] = _nothing_forbids,
    ) -> None:
        self._run = run
        self._fresh = fresh
        self._after = after
        self._stop = stop
        self._progress = progress
        self._check = check
        self._trained = 0
        self._store = open_store(run.store, run.s3)
        self._registry = Registry(self._store)
        self._sets = TrainingSets(self._store)
        self._freezer = Freezer(
            self._store, run.finetune.data, self._progress, run.limits.image_bytes
        )

    def learn(self) -> Decision:
        """Freeze, train, compare, and promote what is better.

        Raises:
            InputError: there is nothing to learn from, or a picture is not the one that was
                corrected; run again to learn without it.
            ModelUnusableError: the model cannot be used.
            StorageError: the store failed.
            StoppedError: stopped, or another refresh was faster; run again to go on.
        """
        began = time.monotonic()
        with ray_session(self._run.pool):
            incumbent = current_version(self._run, self._store, self._progress)
            snapshot = self._freeze(incumbent)
            decision = self._known(snapshot, incumbent) or self._decide(snapshot, incumbent)
        return replace(decision, seconds=round(time.monotonic() - began, 3))

    def _decide(self, snapshot: Manifest, incumbent: Pointer) -> Decision:
        job = self._job(snapshot, incumbent)
        result = self._finetune(job)
        decision = self._judge(snapshot, result, incumbent)
        record_candidate(self._run, self._registry, result, decision)
        if decision.promoted and self._was_taken_back(decision.candidate, incumbent):
            reason = "it was promoted before and taken back; 'readloop models promote' brings it on"
            decision = replace(decision, promoted=False, reasons=(*decision.reasons, reason))
        if decision.promoted:
            self._check()
            self._registry.move(decision.candidate, "promote", incumbent)
        gate = self._run.finetune.gate.digest
        self._sets.settle(snapshot, _name(job), gate, decision.to_json())
        return decision

    def _was_taken_back(self, version: str, incumbent: Pointer) -> bool:
        """Return whether a version has taken the incumbent's place before, which is current again.

        A promotion whose end was cut off is decided on once more.
        """
        moves = ((entry.kind, entry.version, entry.previous) for entry in self._registry.chain())
        return ("promote", version, incumbent.version) in moves

    def _freeze(self, incumbent: Pointer) -> Manifest:
        latest = self._sets.latest()
        if latest and self._is_open(latest, incumbent):
            self._progress.say(f"going on with snapshot {latest.name}")
            return latest
        learned = self._registry.lineage(incumbent.version).snapshot
        before = self._sets.named(learned) if learned else None
        snapshot = self._freezer.freeze(incumbent.version, before)
        self._progress.say(f"snapshot {snapshot.name}: {_pairs(snapshot.counts)}")
        if snapshot.left_out:
            self._progress.say(f"left out: {_pairs(snapshot.left_out)}")
        return snapshot

    def _is_open(self, snapshot: Manifest, incumbent: Pointer) -> bool:
        """Return whether a training on a set is to be gone on with."""
        if self._fresh or snapshot.number <= self._after or snapshot.model != incumbent.version:
            return False
        job = self._job(snapshot, incumbent)
        begun = self._store.exists(f"{job.folder}/{MARKER}")
        if not begun or self._sets.is_settled(_name(job)):
            return False
        doubtful = self._store.exists(f"{job.folder}/{STALE}")
        return not doubtful or self._freezer.is_intact(snapshot)

    def _known(self, snapshot: Manifest, incumbent: Pointer) -> Decision | None:
        """Return the decision that stands, if nothing has changed since."""
        lineage = self._registry.lineage(incumbent.version)
        if snapshot.name == lineage.snapshot and not self._fresh:
            self._progress.say(f"nothing new: {incumbent.version} has learned all of it")
            return TypeAdapter(Decision).validate_python(lineage.decision)
        job, gate = self._job(snapshot, incumbent), self._run.finetune.gate.digest
        outcome = self._sets.outcome(snapshot, _name(job), gate)
        if outcome is None:
            return None
        self._progress.say("nothing new: this was decided before")
        return TypeAdapter(Decision).validate_python(outcome)

    def _job(self, snapshot: Manifest, incumbent: Pointer) -> FinetuneJob:
        settings = self._run.finetune.train
        version = incumbent.version
        if self._run.finetune.start == "first":
            version = self._registry.chain()[0].version
        name = f"{snapshot.number:06d}-{settings.digest(snapshot.name, version)}"
        return FinetuneJob(
            store=self._store.uri,
            s3=self._run.s3,
            limits=self._run.limits,
            folder=f"{JOBS}/{name}",
            snapshot=snapshot.name,
            start=self._registry.usable_weights(version),
            models=FOLDER,
            settings=settings,
        )

    def _finetune(self, job: FinetuneJob) -> FinetuneResult:
        from workers.finetune.job import finetune  # noqa: PLC0415  (after Ray's environment is set)

        self._store.put_new(f"{job.folder}/{MARKER}", job.settings.model_dump_json().encode())
        self._progress.begin("training steps")
        self._trained = 0
        try:
            result = finetune(job, self._stop, self._tell)
        except PictureError as error:
            self._store.put(f"{job.folder}/{STALE}", str(error).encode())
            raise
        self._progress.end()
        if result.refused:
            self._progress.say(
                f"{result.refused} corrections were not taught: their queries cannot be asked, or "
                "are too long for the model"
            )
        self._progress.say(
            f"trained {result.steps} steps, loss {result.loss:.4f}: version {result.version}"
        )
        return result

    def _tell(self, step: StepReport) -> None:
        self._progress.expect(step.total)
        self._progress.advance(step.step + 1 - self._trained)  # a resumed job begins further on
        self._trained = step.step + 1
        if step.step % max(1, step.total // _TOLD) == 0:
            self._progress.say(f"step {step.step} of {step.total}: loss {step.loss:.4f}")

    def _judge(self, snapshot: Manifest, result: FinetuneResult, incumbent: Pointer) -> Decision:
        exam = Comparison(self._run, self._store, snapshot, self._stop, self._progress)
        known = self._registry.exists(result.version)
        weights = self._registry.usable_weights if known else self._registry.weights
        candidate = exam.trial(weights(result.version))
        current = exam.trial(self._registry.usable_weights(incumbent.version))
        stored = Stored(result.merge.weight_error, result.merge.merged_loss)
        return decide(
            snapshot.name,
            candidate,
            current,
            stored,
            self._run.finetune.gate,
            first=self._first(exam, incumbent),
        )

    def _first(self, exam: Comparison, incumbent: Pointer) -> Trial | None:
        """Let the model that learning began with answer what is replayed; None: the incumbent."""
        version = next(self._sets.manifests()).model
        if version == incumbent.version:
            return None
        return exam.trial(self._registry.usable_weights(version), replay_only=True)


def _name(job: FinetuneJob) -> str:
    return job.folder.rpartition("/")[2]


def _pairs(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items())
