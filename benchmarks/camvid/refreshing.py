"""The two things that the loop lets the project do: label everything, and refresh once."""

import threading
from dataclasses import dataclass
from typing import Any

from pipeline.config import RunFile
from pipeline.errors import InputError
from pipeline.label import LabelRun
from pipeline.progress import Progress
from pipeline.refresh import refresh_once


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a refresh came to: the gate's word, its measures, and where the seconds went."""

    promoted: bool
    reasons: tuple[str, ...]
    gate: dict[str, Any]
    seconds: dict[str, float]


def refresh(run: RunFile, stop: threading.Event, progress: Progress) -> Refreshed:
    """Learn from what is collected, and label what is untouched anew if the gate promotes.

    Raises:
        InputError: a photograph cannot be labeled or published.
        ReadloopError: see :func:`pipeline.refresh.refresh_once`.
    """
    report = refresh_once(run, now=True, stop=stop, progress=progress)
    assert report.gate, "it was asked to learn"
    if report.exit_code:
        raise InputError("not every photograph is labeled and published: see failures in the store")
    seconds = {"learn": report.gate["seconds"]}
    if report.relabeled:
        seconds["label"] = report.relabeled.seconds
    if report.published:
        seconds["publish"] = report.published.seconds
    seconds["other"] = max(0.0, report.seconds - sum(seconds.values()))
    return Refreshed(
        report.promoted, tuple(report.gate["reasons"]), _measures(report.gate), seconds
    )


def _measures(gate: dict[str, Any]) -> dict[str, Any]:
    """Return what the gate compared, without what the round's own measures say better."""
    compared = {
        who: {
            "iou": measured["holdout"]["iou"],
            "ciou": measured["holdout"]["ciou"],
            "replay_iou": measured["replay"]["iou"],
        }
        for who, measured in gate["metrics"].items()
    }
    return {"gain": gate["gain"], "gain_ci": gate["gain_ci"], **compared}


def label_all(run: RunFile, stop: threading.Event, progress: Progress) -> None:
    """Label and publish every photograph by the current version.

    Raises:
        InputError: a photograph cannot be labeled or published.
        ReadloopError: see :class:`pipeline.label.LabelRun`.
    """
    labeling = LabelRun(run, None, stop, progress)
    summary = labeling.label()
    if summary.failed or summary.unpublished:
        reasons = [row.reason for row in labeling.failures()] + list(summary.unpublished)
        raise InputError(f"not every photograph is labeled and published: {reasons[0]}")
