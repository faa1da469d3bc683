"""The spine on a store that holds all answers: nothing is asked, the table is scored."""

import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ExitCode
from pipeline.evaluate import evaluate
from pipeline.evaluation.datasets import read_samples
from pipeline.evaluation.exam import Exam
from pipeline.progress import Progress
from workers.dialogue import measured_at
from workers.models import PlannedModel
from workers.settings import PoolSettings

Make = Callable[..., Any]


def test_what_a_stopped_run_had_answered_is_taken_over_and_scored(
    refer: Make, answered: Make, said: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.label.chosen_model", lambda *_: PlannedModel("m", "m1", "{}"))
    made = refer()
    made.add(1, [[2, 2, 6, 2, 6, 6, 2, 6]], "a dog", "the cat")
    root = made.write()
    exam = Exam("refcoco", read_samples("refcoco", root, "val"))
    answered(exam, {"a dog": said(2, 2, 6, 8), "the cat": said(answer="None.")})

    dialogue = tmp_path / "store" / measured_at(PlannedModel("m", "m1", "{}").name)
    dialogue.parent.mkdir()
    dialogue.write_text('{"loss": 2.5, "tokens": 40}')

    evaluation = evaluate(
        "refcoco",
        root,
        "val",
        model="m",
        store=str(tmp_path / "store"),
        pool=PoolSettings(),
        split_by=None,
        limit=None,
        stop=threading.Event(),
        progress=Progress(io.StringIO()),
    )
    assert evaluation.exit_code == ExitCode.DONE
    told = evaluation.to_json()
    assert {"giou", "giou_ci", "ciou", "ciou_ci", "see_accuracy", "queries"} <= told.keys()
    assert (told["giou"], told["ciou"]) == (pytest.approx(1 / 3), pytest.approx(16 / 40))
    assert (told["see_accuracy"], told["queries"], told["denied_present"]) == (0.5, 2, 0.5)
    assert (told["model_version"], told["failed"]) == ("m1", 0)
    assert (told["model"], told["dialogue_loss"], told["dialogue_tokens"]) == ("m", 2.5, 40)
    assert "gIoU 33.3 % [33.3, 33.3]" in evaluation.to_text()
