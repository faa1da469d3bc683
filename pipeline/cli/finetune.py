"""``readloop finetune``: from corrections to a promoted model."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.terminal import chatter_on_stderr, stop_on_signals
from pipeline.errors import ExitCode

if TYPE_CHECKING:
    from pipeline.learning.gate import Decision


def finetune(
    run_file: Annotated[Path, typer.Argument(metavar="RUN.yaml", help="The run file.")],
    *,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="Leave an unfinished training; train also on nothing new."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object only.")] = False,
) -> int:
    """Learn from corrections: freeze a training set, fine-tune, compare, promote what is better.

    The candidate and the current version answer the same held-out queries; the candidate becomes
    current if it is better beyond doubt and has forgotten nothing. Started again it goes on where
    it stopped; with nothing new it does nothing. Ends with 0 done (promoted or not), 1 bad input,
    3 stopped, or another refresh was faster.

    --json prints one object. snapshot, candidate, incumbent: their names; metrics: of candidate and
    incumbent, each with holdout, replay and dialogue_loss; gain and gain_ci: of the measure that
    decides; guards: name, candidate, incumbent, margin, ok; promoted; reasons; seconds.
    """
    from pipeline.config import load_run_file  # noqa: PLC0415
    from pipeline.learn import Learning  # noqa: PLC0415
    from pipeline.progress import Progress  # noqa: PLC0415

    with chatter_on_stderr(), stop_on_signals() as stop:
        progress = Progress()
        try:
            run = load_run_file(run_file)
            decision = Learning(run, fresh=fresh, stop=stop, progress=progress).learn()
        finally:
            progress.end()
    typer.echo(
        json.dumps(decision.to_json()) if as_json else "\n".join(_lines(decision, run.model))
    )
    return ExitCode.DONE


def _lines(decision: "Decision", model: str) -> list[str]:
    lines = [
        f"snapshot {decision.snapshot}: {decision.candidate} against {decision.incumbent}",
        *decision.reasons,
    ]
    return lines + (unused_lines(model) if decision.promoted else [])


def unused_lines(model: str) -> list[str]:
    """Return what to say after a promotion if the run file does not follow the registry."""
    if model.startswith("registry"):
        return []
    return [f"the run file still names {model}; write 'model: registry' to use it"]
