"""The ``readloop`` command. What a command needs is imported when it runs: help is fast."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.calibrate import calibrate
from pipeline.cli.collect import collect
from pipeline.cli.evaluate import evaluate
from pipeline.cli.explain import explain
from pipeline.cli.export import export
from pipeline.cli.finetune import finetune
from pipeline.cli.import_ import import_
from pipeline.cli.models import models
from pipeline.cli.phrase import phrase
from pipeline.cli.refresh import refresh
from pipeline.cli.retract import retract
from pipeline.cli.serve import serve
from pipeline.cli.terminal import chatter_on_stderr, stop_on_signals
from pipeline.errors import ConfigError, ExitCode, InputError, ModelUnusableError, ReadloopError

if TYPE_CHECKING:
    from pipeline.label import LabelRun

SHOWN_FAILURES = 5
UsageError: Any = typer.BadParameter.__base__
"""Typer's error for a wrong command line. Typer would end with 2, which means failed rows here."""

app = typer.Typer(
    help="READ masks and points for images in object storage, reviewed in Label Studio.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(models, name="models")

RunPath = Annotated[Path, typer.Argument(metavar="RUN.yaml", help="The run file.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Take only the first N images.")]
ModelVersion = Annotated[
    str | None, typer.Option("--version", help="Whose predictions, if not the present model's.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Model = Annotated[str, typer.Option(help="Folder, s3://BUCKET/PREFIX or hub id of a checkpoint.")]


def main() -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; return its exit code, see :class:`pipeline.errors.ExitCode`."""
    try:
        code = app(arguments, prog_name="readloop", standalone_mode=False)
    except UsageError as error:
        error.show()
        return ExitCode.BAD_INPUT
    except typer.Abort:
        return ExitCode.STOPPED
    except ReadloopError as error:
        typer.echo(f"readloop: {error}", err=True)
        return error.exit_code
    return int(code or 0)


@app.callback(invoke_without_command=True)
def _root(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if show_version:
        typer.echo(version("readloop"))
        raise typer.Exit


@app.command()
def label(run_file: RunPath, limit: Limit = None, as_json: AsJson = False) -> int:
    """Pre-annotate images: predict what is not in the table yet, commit it, and publish.

    Started again it goes on where it stopped; a finished run does nothing. Ends with 0 done,
    1 bad configuration or input, 2 done with failed rows, 3 stopped (also by SIGINT, SIGTERM).

    --json prints one object. images, queries: what was asked for, a query being one (image,
    query). present, absent, failed: how those stand now. pushed: Label Studio tasks created by
    this call. skipped: queries that were done before. seconds: of this call.
    images_per_second: images that this call worked on, a second.
    """
    with _opened(run_file, limit) as run:
        summary = run.label()
        failures = list(islice(run.failures(), SHOWN_FAILURES)) if summary.failed else []
    _show(summary.to_json() if as_json else summary.to_text(run.store.uri, failures))
    return summary.exit_code


@app.command()
def publish(
    run_file: RunPath,
    limit: Limit = None,
    model_version: ModelVersion = None,
    as_json: AsJson = False,
) -> int:
    """Show a run's predictions in Label Studio: the last step of ``label`` alone.

    --version shows those of an import (import:NAME@DIGEST) or of an earlier model instead.

    --json prints one object, in tasks. created: new ones. existing: were there and are left as
    they are, up to date or worked on by somebody. replaced: untouched ones that show other
    predictions now. retracted: untouched ones that show nothing now, because what they showed is
    retracted. failed: could not be shown (failures: why). projects: numbers of the run's projects.
    seconds. Ends with 2 if a task could not be shown.
    """
    with _opened(run_file, limit, model_version) as run:
        published = run.publish()
    if as_json:
        _show(asdict(published))
    else:
        lines = [
            f"{published.created} created, {published.existing} existing, "
            f"{published.replaced} replaced, {published.retracted} retracted, "
            f"{published.failed} failed"
        ]
        lines += [f"not shown: {reason}" for reason in published.failures[:SHOWN_FAILURES]]
        _show("\n".join(lines))
    return ExitCode.FAILED_ROWS if published.failed else ExitCode.DONE


app.command()(retract)


@app.command()
def predict(
    image: Annotated[str, typer.Argument(help="Path or s3:// address of a picture.")],
    query: Annotated[str, typer.Argument(help="What to look for.")],
    model: Model,
    *,
    out: Annotated[Path | None, typer.Option(help="Where to draw mask, points and map.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N, or auto: all GPUs.")] = "cpu",
    as_json: AsJson = False,
) -> int:
    """Ask one query of one image: prints answer, points and predicted IoU, and draws them.

    --json prints one object: answer, present, seg_probability, width, height, model_version and
    segments, each with points (x, y in pixels, label, similarity), predicted_iou, stability and
    area (pixels).
    """
    from pipeline.cli.predict import predict_one  # noqa: PLC0415

    with chatter_on_stderr():
        shown = predict_one(image, query, model, out, device)
    _show(shown.to_json() if as_json else shown.to_text())
    return ExitCode.DONE


app.command()(calibrate)
app.command()(collect)
app.command()(evaluate)
app.command()(explain)
app.command()(phrase)
app.command()(export)
app.command("import")(import_)
app.command()(serve)
app.command()(finetune)
app.command()(refresh)


@app.command()
def conformance(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Holds manifest.json.")],
    as_json: AsJson = False,
) -> int:
    """Compare this program's numbers with recorded ones; ends with 1 if one is out of bounds.

    So does a listed case that was not run, of an unknown kind too.

    --json prints one object: cases, each with name, kind, array, max_abs, tolerance, ok.
    """
    from workers.read.conformance import report, run_conformance, table  # noqa: PLC0415

    with chatter_on_stderr(), _model_errors():
        results = run_conformance(folder, progress=lambda name: typer.echo(name, err=True))
    _show(report(results) if as_json else "\n".join(table(results)))
    return ExitCode.DONE if all(result.ok for result in results) else ExitCode.BAD_INPUT


@app.command()
def scenes(
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    seed: Annotated[int, typer.Option(min=0, help="Other seeds, other scenes.")] = 0,
    count: Annotated[int, typer.Option(min=1, help="How many pictures.")] = 10,
    difficulty: Annotated[str, typer.Option(help="hard, or easy as the bundled model knows.")] = (
        "hard"
    ),
) -> None:
    """Write generated pictures, a manifest of queries for ``label``, and the true masks."""
    from workers.scenes import DIFFICULTIES, write_scenes  # noqa: PLC0415

    if difficulty not in DIFFICULTIES:
        raise ConfigError(f"--difficulty {difficulty}: choose one of {', '.join(DIFFICULTIES)}")
    try:
        _show(str(write_scenes(seed, count, out, DIFFICULTIES[difficulty])))
    except OSError as error:
        place = error.filename or out
        raise InputError(f"{place}: cannot be written ({error.strerror})") from error


@contextmanager
def _opened(
    run_file: Path, limit: int | None, model_version: str | None = None
) -> "Iterator[LabelRun]":
    from pipeline.config import load_run_file  # noqa: PLC0415
    from pipeline.label import LabelRun  # noqa: PLC0415
    from pipeline.progress import Progress  # noqa: PLC0415

    with chatter_on_stderr(), stop_on_signals() as stop:
        progress = Progress()
        try:
            run = load_run_file(run_file)
            yield LabelRun(run, limit, stop, progress, version=model_version)
        finally:
            progress.end()


@contextmanager
def _model_errors() -> Iterator[None]:
    """Turn the model library's errors into ours."""
    from workers.read.errors import ReadError  # noqa: PLC0415

    try:
        yield
    except ReadError as error:
        raise ModelUnusableError(str(error)) from error


def _show(result: object) -> None:
    """Print a result: text as it is, anything else as one JSON object."""
    typer.echo(result if isinstance(result, str) else json.dumps(result))
