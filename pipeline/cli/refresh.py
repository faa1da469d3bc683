"""``readloop refresh``: collect, learn if that is worth it, label anew; once or all the time."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.finetune import unused_lines
from pipeline.cli.terminal import chatter_on_stderr, stop_on_signals
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.refreshing.report import RefreshReport


def refresh(
    run_file: Annotated[Path, typer.Argument(metavar="RUN.yaml", help="The run file.")],
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until SIGINT or SIGTERM.")] = False,
    now: Annotated[
        bool, typer.Option("--now", help="However few corrections are new, and however soon.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; with --watch, one a refresh.")
    ] = False,
) -> int:
    """Collect corrections, learn from them, promote what is better, label anew with it.

    Nothing is learned unless enough corrections are new ('refresh' in the run file). What nobody
    has touched is labeled anew by a promoted version, worst first, and shown in Label Studio.
    Started again it goes on where it stopped. Ends with 0 done (learned or not, promoted or not),
    1 bad input, 2 done with rows that failed, 3 stopped, or somebody else refreshes this store.

    --json prints one object. number: of the refresh (null: none was worth it); collected: as
    'collect' prints; decision: learn, why, new; gate: as 'finetune' prints (null: not learned);
    promoted; relabeled: images, queries, present, absent, failed, seconds; published: as 'publish'
    prints (both null: nothing promoted); seconds.
    """
    from pipeline.config import load_run_file  # noqa: PLC0415
    from pipeline.progress import Progress  # noqa: PLC0415
    from pipeline.refresh import Refresh  # noqa: PLC0415

    def show(report: "RefreshReport") -> None:
        lines = _lines(report) + (unused_lines(run.model) if report.promoted else [])
        text = json.dumps(report.to_json()) if as_json else "\n".join(lines)
        print(text, file=out, flush=True)

    if watch and now:
        raise ConfigError("--now: not with --watch, which would refresh without end")
    with chatter_on_stderr() as out, stop_on_signals("this step ends") as stop:
        progress = Progress()
        try:
            run = load_run_file(run_file)
            turns = Refresh(run, now=now, stop=stop, progress=progress)
            if watch:
                turns.watch(show)
            report = turns.once()
        finally:
            progress.end()
        show(report)
    return report.exit_code


def _lines(report: "RefreshReport") -> list[str]:
    if report.number is None:
        return [f"not refreshed: {report.decision.why}"]
    gate: dict[str, Any] = report.gate or {}
    lines = [
        f"refresh {report.number}: {report.decision.why}",
        f"{gate['candidate']} against {gate['incumbent']}",
        *gate["reasons"],
    ]
    if report.relabeled:
        done = report.relabeled
        lines.append(f"{done.images} images labeled anew, {done.failed} of their queries failed")
    if report.published:
        shown = report.published
        lines.append(f"{shown.replaced} tasks show other predictions, {shown.existing} as before")
    return lines
