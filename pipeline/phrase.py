"""Tries other wordings of a run's queries on the images that people have corrected. The recipe.

The answers lie in a store of their own, ``<store>/review/phrasing``: stopped, it goes on where it
stopped, and wordings that were tried before are not asked again.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline import masks
from pipeline.config import RunFile
from pipeline.errors import InputError
from pipeline.label import LabelRun
from pipeline.progress import Progress
from pipeline.records import (
    Correction,
    ImageRef,
    ImageTasks,
    LabelTask,
    Prediction,
    Query,
    task_key,
)
from pipeline.registry.resolve import model_source
from pipeline.review.evidence import units
from pipeline.review.phrasing import FEWEST_IMAGES, Answered, Outcome, choose_wording
from pipeline.review.policy import training_corrections
from pipeline.review.wordings import variations
from pipeline.sources.queries import AskedQuery, everywhere, name_queries
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.store import ObjectReader, Store, open_store

FOLDER = "review/phrasing"


@dataclass(frozen=True, slots=True)
class Trial:
    """One query: its wordings, the present one first, and the corrections by image id."""

    label: str
    texts: tuple[str, ...]
    truths: Mapping[str, Correction]


def phrase(
    run_file: RunFile, label: str | None, stop: threading.Event, progress: Progress
) -> list[Outcome]:
    """Try the wordings of one label's query, or of all that have enough corrections.

    Raises:
        InputError: a label has fewer than 20 corrected images, or the queries are not the run's.
        ModelUnusableError: the model cannot be used.
        StorageError: the store failed.
        StoppedError: ``stop`` was set, or another run writes to the store.
    """
    store = open_store(run_file.store, run_file.s3)
    trials = _trials(run_file, label, store)
    wordings = sum(len(trial.texts) for trial in trials)
    progress.say(f"trying {wordings} wordings of {len(trials)} queries on corrected images")
    asking = _Asking(trials)
    run = LabelRun(_apart(run_file, store), None, stop, progress, asking.tasks)
    run.label()
    answers = {row.key: row for rows in run.tables.read_by_image(run.plan.keys) for row in rows}
    return [_outcome(trial, asking, answers, run_file) for trial in trials]


def _apart(run_file: RunFile, store: Store) -> RunFile:
    """Return the run with the same model and pool, but a store of its own and nothing to show."""
    model = model_source(run_file.model, run_file.finetune.base, store)
    changes = {"store": f"{store.uri}/{FOLDER}", "model": model, "labelstudio": None}
    return run_file.model_copy(update=changes)


class _Asking:
    """Every wording of every trial on the trial's images; ``keys`` remembers which is which."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        self._trials = trials
        self.keys: dict[tuple[str, str, str], str] = {}

    def tasks(self, model_version: str, settings_json: str) -> Iterator[ImageTasks]:
        """Yield the images, each with its wordings."""
        images = {row.image_id: row for trial in self._trials for row in trial.truths.values()}
        for row in images.values():
            image = ImageRef(row.image_id, row.image, 0, row.etag, row.group)
            tasks = []
            for trial in self._trials:
                if row.image_id not in trial.truths:
                    continue
                for text in trial.texts:
                    key = task_key(image, Query(trial.label, text), model_version, settings_json)
                    self.keys[row.image_id, trial.label, text] = key
                    tasks.append(LabelTask(key, trial.label, text))
            yield ImageTasks(image, tuple(tasks))


def _trials(run_file: RunFile, label: str | None, store: Store) -> list[Trial]:
    asked = everywhere(run_file.source.queries, ObjectReader(run_file.s3))
    if not asked:
        raise InputError(
            f"run {run_file.name}: its queries come from a manifest, one an image; "
            "only those under source.queries can be reworded"
        )
    queries, _ = name_queries(asked, run_file.source.images)
    by_text = {query.text: query for query in asked}
    rows = list(CorrectionTable(store).latest())
    trials = [_trial(query, by_text[query.text], rows) for query in queries]
    if label is not None and label not in {trial.label for trial in trials}:
        known = ", ".join(trial.label for trial in trials)
        raise InputError(
            f"run {run_file.name}: has no label {label!r} under source.queries ({known})"
        )
    chosen = [trial for trial in trials if label in (None, trial.label)]
    enough = [trial for trial in chosen if len(trial.truths) >= FEWEST_IMAGES]
    if not enough:
        counts = ", ".join(f"{trial.label}: {len(trial.truths)}" for trial in chosen)
        raise InputError(
            f"too few corrected images to choose a wording, {FEWEST_IMAGES} of a label are needed "
            f"({counts}); review more, then run 'readloop collect'"
        )
    return enough


def _trial(query: Query, asked: AskedQuery, rows: Sequence[Correction]) -> Trial:
    """Return a query's trial: corrections of any of its wordings are about the same thing."""
    texts = tuple(dict.fromkeys([query.text, *asked.wordings, *variations(query.text)]))
    own = [row for row in rows if row.label == query.label and row.query in texts]
    truths: dict[str, Correction] = {}
    for row in sorted(training_corrections(own), key=lambda row: row.updated_at):
        truths[row.image_id] = row
    return Trial(query.label, texts, truths)


def _outcome(
    trial: Trial, asking: _Asking, answers: Mapping[str, Prediction], run_file: RunFile
) -> Outcome:
    of_unit = units(list(trial.truths.values()), run_file.review.independent)
    rows = []
    for truth in trial.truths.values():
        ious = _ious(trial, truth, asking, answers)
        if len(ious) == len(trial.texts):
            rows.append(Answered(truth.image_id, of_unit[truth.image_id], ious))
    if len({row.unit for row in rows}) < FEWEST_IMAGES:
        raise InputError(
            f"label {trial.label}: only {len({row.unit for row in rows})} independent images were "
            f"answered in every wording, {FEWEST_IMAGES} are needed; see {FOLDER}/failures in the "
            "store, and review.independent in the run file"
        )
    return choose_wording(trial.label, trial.texts[0], rows, len(trial.truths) - len(rows))


def _ious(
    trial: Trial, truth: Correction, asking: _Asking, answers: Mapping[str, Prediction]
) -> dict[str, float]:
    found = {}
    for text in trial.texts:
        answer = answers.get(asking.keys[truth.image_id, trial.label, text])
        if answer is not None and (answer.height, answer.width) == (truth.height, truth.width):
            found[text] = masks.iou(answer.mask, truth.mask)
    return found
