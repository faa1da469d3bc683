"""Two models take the same exam: held-out corrections, what is replayed, plain dialogue.

The labelling pool's own replicas answer, into tables of their own (``exams/`` in the store), so
that an exam that is stopped goes on, and one that a model has taken is not taken again.
"""

import threading
from collections.abc import Mapping, Sequence

from pipeline.config import RunFile
from pipeline.label import LabelRun
from pipeline.learning.exam import Exam, Judged
from pipeline.learning.gate import Trial
from pipeline.progress import Progress
from pipeline.records import Example
from pipeline.storage.store import Store
from pipeline.storage.training_sets import Manifest, TrainingSets
from workers.dialogue import dialogue_loss
from workers.finetune.judging import judged_scenes

EXAMS = "exams"


class Comparison:
    """An exam made from a snapshot.

    Raises:
        StorageError: the store failed, or the snapshot cannot be rebuilt.
    """

    def __init__(
        self,
        run: RunFile,
        store: Store,
        manifest: Manifest,
        stop: threading.Event,
        progress: Progress,
    ) -> None:
        self._run = run
        self._store = store
        self._stop = stop
        self._progress = progress
        held = [one for one in TrainingSets(store).examples(manifest) if one.split == "holdout"]
        self._holdout = [one for one in held if one.origin == "correction"]
        self._replay = [one for one in held if one.origin == "replay"]
        if manifest.scenes:
            self._replay += judged_scenes(store, manifest.scenes)

    def trial(self, source: str, *, replay_only: bool = False) -> Trial:
        """Let a model answer, in a Ray session that is there; maybe only what is replayed.

        Raises:
            ModelUnusableError: the model cannot be used.
            StorageError: the store failed.
            StoppedError: it was asked to stop.
        """
        holdout = [] if replay_only else self._holdout
        examples = [*holdout, *self._replay]
        exam = Exam(examples)
        asked = self._run.model_copy(
            update={
                "name": "exam",
                "store": self._store.address.child(EXAMS).uri,
                "model": source,
                "labelstudio": None,
            }
        )
        run = LabelRun(asked, None, self._stop, self._progress, exam.tasks)
        scores: dict[str, Judged] = {}
        if examples:
            run.label()
            scores = exam.scores(run.tables.read_by_image(run.plan.keys))
        return Trial(
            version=run.model.version,
            holdout=_of(holdout, scores),
            replay=_of(self._replay, scores),
            dialogue=dialogue_loss(run.model, self._run.pool, run.store, self._stop).loss,
        )


def _of(examples: Sequence[Example], scores: Mapping[str, Judged]) -> dict[str, Judged]:
    """Return the scores of those examples that were answered."""
    return {one.id: scores[one.id] for one in examples if one.id in scores}
