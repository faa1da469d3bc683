"""``readloop retract``: takes a bad model version's predictions back from Label Studio."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.terminal import chatter_on_stderr, stop_on_signals
from pipeline.errors import ConfigError, ExitCode, StoppedError

if TYPE_CHECKING:
    from labelstudio.settings import LabelStudioSettings
    from pipeline.storage.store import Store


def retract(
    run_file: Annotated[Path, typer.Argument(metavar="RUN.yaml", help="The run file.")],
    model_version: Annotated[str, typer.Argument(help="As the tables and Label Studio name it.")],
    *,
    undo: Annotated[
        bool, typer.Option("--undo", help="Allow the version again; publish shows it.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object and nothing else.")
    ] = False,
) -> int:
    """Take a model version's predictions back from tasks that nobody has touched.

    They show their image and no prediction until another version is published. Tasks somebody
    has worked on (annotation, skip or draft) keep the prediction the person started from. The
    retraction is noted on the store, and publishing refuses the version from then on.

    --json prints one object: model_version, retracted and kept (tasks), projects (their
    numbers), seconds; with --undo model_version and undone.
    """
    told = allow(run_file, model_version) if undo else take_back(run_file, model_version)
    if as_json:
        typer.echo(json.dumps(told))
    elif undo:
        typer.echo(f"{model_version} may be published again")
    else:
        typer.echo(f"{told['retracted']} tasks retracted, {told['kept']} kept: worked on")
    return ExitCode.DONE


def take_back(run_file: Path, model_version: str, *, known: bool = False) -> dict[str, Any]:
    """Retract a version and return the documented keys; a ``known`` one may be shown nowhere.

    Raises:
        ReadloopError: see :func:`labelstudio.publishing.retract.retract`.
    """
    with chatter_on_stderr(), stop_on_signals() as stop:
        from labelstudio.publishing.retract import retract as take_back_from  # noqa: PLC0415
        from labelstudio.token import checked_token  # noqa: PLC0415
        from pipeline.progress import Progress  # noqa: PLC0415

        settings, store = _opened(run_file)
        progress = Progress()
        progress.begin("tasks looked at")

        def advance(tasks: int) -> None:
            progress.advance(tasks)
            if stop.is_set():
                raise StoppedError("stopped while retracting; run again to go on")

        summary = take_back_from(
            model_version,
            settings=settings,
            token=checked_token(settings),
            store=store,
            progress=advance,
            known=known,
        )
        progress.end()
    return asdict(summary)


def allow(run_file: Path, model_version: str) -> dict[str, Any]:
    """Let a version be published again, and return the documented keys."""
    from labelstudio.publishing.retractions import Retractions  # noqa: PLC0415

    _, store = _opened(run_file)
    Retractions(store).note(model_version, retracted=False)
    return {"model_version": model_version, "undone": True}


def _opened(run_file: Path) -> "tuple[LabelStudioSettings, Store]":
    from pipeline.config import load_run_file  # noqa: PLC0415
    from pipeline.storage.store import open_store  # noqa: PLC0415

    run = load_run_file(run_file)
    if run.labelstudio is None:
        raise ConfigError(f"{run_file}: no 'labelstudio' part, so nothing is shown anywhere")
    return run.labelstudio, open_store(run.store, run.s3)
