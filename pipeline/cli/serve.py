"""``readloop serve``: the interactive backend."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.terminal import chatter_on_stderr, stop_on_signals
from pipeline.errors import ExitCode


def serve(
    run_file: Annotated[Path, typer.Argument(metavar="RUN.yaml", help="The run file.")],
    *,
    connect: Annotated[
        bool, typer.Option(help="Make the run's Label Studio project ask this backend.")
    ] = True,
    use: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Give the server that runs already other weights, and end."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object once it is up.")
    ] = False,
) -> int:
    """Serve a run's model to Label Studio: masks follow points, new questions are answered.

    Runs until SIGINT or SIGTERM. READLOOP_BACKEND_SECRET holds the secret that Label Studio
    sends; LABEL_STUDIO_API_KEY is needed to connect the project.

    --json prints one object: address, model_version, projects (their numbers); with --use
    only address and model_version.
    """
    from pipeline.config import load_run_file  # noqa: PLC0415
    from pipeline.serve import Served, use_model  # noqa: PLC0415
    from pipeline.serve import serve as serve_run  # noqa: PLC0415

    run = load_run_file(run_file)
    if use is not None:
        with chatter_on_stderr():
            version = use_model(run, use)
        found = {"address": run.serve.address, "model_version": version}
        typer.echo(json.dumps(found) if as_json else f"{run.serve.address} answers with {version}")
        return ExitCode.DONE
    with chatter_on_stderr() as results, stop_on_signals("open requests are answered") as stop:

        def ready(served: Served) -> None:
            shown = f"serving {served.model_version} at {served.address}; Ctrl-C ends it"
            print(json.dumps(asdict(served)) if as_json else shown, file=results, flush=True)

        serve_run(
            run,
            stop,
            connecting=connect,
            say=lambda text: typer.echo(text, err=True),
            ready=ready,
        )
    return ExitCode.DONE
