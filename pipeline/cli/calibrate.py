"""``readloop calibrate``: what people's corrections say about the model's own confidence."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.terminal import chatter_on_stderr, stop_on_signals
from pipeline.errors import ExitCode


def calibrate(
    run_file: Annotated[Path, typer.Argument(metavar="RUN.yaml", help="The run file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object only.")] = False,
) -> int:
    """Fit expected IoU to the corrections; the next publishing orders tasks by it.

    Needs 40 corrections of the present model's predictions. One half of the images fits the curve,
    the other judges it. With review.accept in the run file it also looks for a threshold over which
    images need not be seen. Ends with 0 done, 1 too few corrections or bad input, 3 stopped.

    --json prints one object. calibration: its number; path; model_version; corrections; unit:
    what is taken as independent, image or group; kind: isotonic or logistic; errors:
    cross-validated mean squared error of each. held_out, blank: rows, units, ece, mae, bias (each
    with _ci, 95 %) and curve (expected, observed, rows). acceptance: threshold, iou, error,
    confidence, images, wrong, bound, null without one. search: sample (all or audit), images,
    needed. rule_before: on, reason, threshold, audited, wrong, evidence. arms: shown and blank
    (images, queries, seconds, iou), saved, iou_gap, iou_gap_adjusted, each with _ci.
    """
    from pipeline.calibrate import calibrate as fit  # noqa: PLC0415
    from pipeline.config import load_run_file  # noqa: PLC0415
    from pipeline.progress import Progress  # noqa: PLC0415

    with chatter_on_stderr(), stop_on_signals() as stop:
        report = fit(load_run_file(run_file), stop, Progress())
    typer.echo(json.dumps(report.to_json()) if as_json else report.to_text())
    return ExitCode.DONE
