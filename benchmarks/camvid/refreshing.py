"""One refresh of an order's model, and the labelling of what nobody has touched."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pipeline.config import RunFile
from pipeline.errors import InputError
from pipeline.label import LabelRun
from pipeline.learn import Refresh
from pipeline.progress import Progress
from pipeline.records import ImageTasks
from pipeline.sources.tasks import image_tasks
from pipeline.storage.addresses import locate


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a refresh came to: the gate's word, its measures, and where the seconds went."""

    promoted: bool
    reasons: tuple[str, ...]
    gate: dict[str, Any]
    seconds: dict[str, float]


def refresh(
    run: RunFile, corrected: frozenset[str], stop: threading.Event, progress: Progress
) -> Refreshed:
    """Learn from what is collected, and label what is untouched anew if the gate promotes."""
    began = time.monotonic()
    decision = Refresh(run, fresh=False, stop=stop, progress=progress).learn()
    learned = time.monotonic() - began
    began = time.monotonic()
    if decision.promoted:
        label_untouched(run, corrected, stop, progress)
    gate = {
        "gain": decision.gain,
        "gain_ci": list(decision.gain_ci),
        **{
            who: {
                "iou": measured["holdout"]["iou"],
                "ciou": measured["holdout"]["ciou"],
                "replay_iou": measured["replay"]["iou"],
            }
            for who, measured in decision.metrics.items()
        },
    }
    seconds = {"learn": learned, "label": time.monotonic() - began}
    return Refreshed(decision.promoted, decision.reasons, gate, seconds)


def label_untouched(
    run: RunFile, corrected: frozenset[str], stop: threading.Event, progress: Progress
) -> None:
    """Label and publish, by the current version, every picture but the corrected ones.

    Raises:
        InputError: a picture cannot be labeled.
    """

    def untouched(version: str, settings: str) -> Iterator[ImageTasks]:
        for work in image_tasks(run.source, run.s3, version, settings):
            if PurePosixPath(locate(work.image.uri).path).stem not in corrected:
                yield work

    labeling = LabelRun(run, None, stop, progress, untouched)
    summary = labeling.label()
    if summary.failed or summary.unpublished:
        reasons = [row.reason for row in labeling.failures()] + list(summary.unpublished)
        raise InputError(f"not every photograph is labeled and published: {reasons[0]}")
