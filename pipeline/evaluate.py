"""A published protocol, run as labelling: ask a set's queries, commit the answers, score the table.

The answers lie in the store's tables like those of any run, so that an evaluation that is stopped
goes on where it stopped, and one that is done is only scored again.
"""

import threading
from pathlib import Path

from pipeline.config import RunFile
from pipeline.errors import InputError
from pipeline.evaluation.datasets import read_samples
from pipeline.evaluation.exam import Exam
from pipeline.evaluation.metrics import figures
from pipeline.evaluation.report import Evaluation
from pipeline.label import LabelRun
from pipeline.progress import Progress
from pipeline.sources.settings import SourceSettings
from workers.dialogue import dialogue_loss
from workers.settings import PoolSettings


def evaluate(
    dataset: str,
    root: Path,
    split: str,
    *,
    model: str,
    store: str,
    pool: PoolSettings,
    split_by: str | None,
    limit: int | None,
    stop: threading.Event,
    progress: Progress,
) -> Evaluation:
    """Ask a model the queries of a split and measure its answers.

    Raises:
        InputError: the set cannot be used, or no query got an answer.
        ModelUnusableError: the model cannot be used.
        StorageError: the store refused or broke.
        StoppedError: ``stop`` was set, or another run writes to the store.
    """
    exam = Exam(dataset, read_samples(dataset, root, split, split_by=split_by, limit=limit))
    asked = RunFile(
        name="evaluate",
        store=store,
        source=SourceSettings(images=str(root)),
        model=model,
        pool=pool,
    )
    run = LabelRun(asked, None, stop, progress, exam.tasks)
    run.label()
    scores = list(exam.scores(run.tables.read_by_image(run.plan.keys)))
    failures = list(run.failures())
    if not scores:
        raise InputError(f"{dataset} {split}: no query was answered; first: {failures[0].reason}")
    progress.say("measuring the loss of plain dialogue")
    dialogue = dialogue_loss(run.model, pool, run.store, stop)
    return Evaluation(
        dataset=dataset,
        split=split,
        model_version=run.model.version,
        model=run.model.source,
        figures=figures(scores),
        dialogue_loss=dialogue.loss,
        dialogue_tokens=dialogue.tokens,
        failures=failures,
        store=run.store.uri,
    )
