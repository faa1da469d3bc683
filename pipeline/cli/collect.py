"""``readloop collect``: corrections from Label Studio into the table, once or all the time."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from pipeline.cli.terminal import chatter_on_stderr, stop_on_signals
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.collect import Listen

RunPath = Annotated[Path, typer.Argument(metavar="RUN.yaml", help="The run file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Watch = Annotated[bool, typer.Option("--watch", help="Go on until SIGINT or SIGTERM.")]
Every = Annotated[float, typer.Option(min=1, help="Seconds between two polls with --watch.")]
Address = Annotated[
    str,
    typer.Option(
        "--listen",
        metavar="[HOST:]PORT",
        help="With --watch: receive webhooks here, on loopback unless a host is given.",
    ),
]
Reached = Annotated[
    str, typer.Option("--hook-url", help="How Label Studio reaches that place, if differently.")
]


def collect(
    run_file: RunPath,
    *,
    watch: Watch = False,
    every: Every = 30.0,
    listen: Address = "",
    hook_url: Reached = "",
    as_json: AsJson = False,
) -> int:
    """Take what people said in Label Studio into the table of corrections.

    Every revision arrives once, whatever was interrupted. With --watch the command polls until it
    is told to stop; webhooks (--listen, with a secret in READLOOP_WEBHOOK_SECRET) make it poll at
    once. Ends with 0 done, 1 bad configuration or input, 2 done but for annotations that cannot be
    read, 3 stopped before the end.

    --json prints one object. new, updated, deleted: corrections, one a query of an annotation,
    that this call wrote. accepted, edited, redrawn, absent, skipped: what the new and updated ones
    say. seconds: of this call. agreement: of queries with several annotators. failures: why
    annotations could not be read.
    """
    from pipeline.collect import CollectRun  # noqa: PLC0415
    from pipeline.config import load_run_file  # noqa: PLC0415
    from pipeline.progress import Progress  # noqa: PLC0415

    where = _listen(listen, hook_url, watch=watch)
    with chatter_on_stderr(), stop_on_signals() as stop:
        progress = Progress()
        try:
            run = CollectRun(load_run_file(run_file), stop, progress)
            summary = run.watch(every, where) if watch else run.collect()
        finally:
            progress.end()
    text = json.dumps(summary.to_json()) if as_json else summary.to_text(run.store.uri)
    typer.echo(text)
    return summary.exit_code


def _listen(address: str, url: str, *, watch: bool) -> "Listen | None":
    from pipeline.collect import Listen  # noqa: PLC0415

    if not address:
        if url:
            raise ConfigError("--hook-url: also say where to --listen")
        return None
    if not watch:
        raise ConfigError("--listen: only with --watch, which is there to receive webhooks")
    try:
        host_given = ":" in address.removeprefix(":")
        parts = urlsplit(f"//{address}" if host_given else f"//127.0.0.1:{address.lstrip(':')}")
        port, host = parts.port, parts.hostname
    except ValueError:
        port = host = None
    if port is None or host is None:
        raise ConfigError(f"--listen {address}: write [HOST:]PORT, such as 127.0.0.1:9090")
    if url and urlsplit(url).scheme not in ("http", "https"):
        raise ConfigError(f"--hook-url {url}: write an http:// or https:// address")
    return Listen(host, port, url)
