"""``readloop phrase``: the wording of a query that people's corrections like best."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.terminal import chatter_on_stderr, stop_on_signals
from pipeline.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from pipeline.config import RunFile
    from pipeline.review.phrasing import Outcome

_SHOWN = 5


def phrase(
    run_file: Annotated[Path, typer.Argument(metavar="RUN.yaml", help="The run file.")],
    *,
    label: Annotated[str | None, typer.Option(help="Only this label's query.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Change the run file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object only.")] = False,
) -> int:
    """Try other wordings of queries on corrected images, and propose better ones.

    Needs 20 corrected images of a label. Tries the query's wordings in the run file and simple
    variations (article, number, "all the …", sentence), chooses by mean IoU on one half of the
    images and tells the gain on the other. A change is proposed when its 95 % interval is above 0;
    --write makes it and keeps comments. A new wording is new work: the next ``label`` asks it of
    all images. Ends with 0 done, 1 too few corrections or bad input, 2 done but for images that
    failed, 3 stopped.

    --json prints one object. labels: for each label, before and after (wordings), better, tried
    (text, iou; best first), chosen_on, judged, failed (images), iou_before, iou_after, gain and
    gain_ci on the judged images. diff: the proposed change, empty if there is none; written.
    """
    from pipeline.config import load_run_file  # noqa: PLC0415
    from pipeline.phrase import phrase as try_wordings  # noqa: PLC0415
    from pipeline.progress import Progress  # noqa: PLC0415

    with chatter_on_stderr(), stop_on_signals() as stop:
        progress = Progress()
        try:
            run = load_run_file(run_file)
            if write and not os.access(run_file.parent, os.W_OK):
                raise ConfigError(f"{run_file}: --write cannot write to its folder")
            outcomes = try_wordings(run, label, stop, progress)
        finally:
            progress.end()
    change, reason = _change(run_file, run, outcomes, write=write)
    result = {
        "labels": [asdict(outcome) | {"better": outcome.better} for outcome in outcomes],
        "diff": change,
        "written": write and bool(change),
    }
    typer.echo(json.dumps(result) if as_json else _text(outcomes, result, reason))
    return ExitCode.FAILED_ROWS if any(found.failed for found in outcomes) else ExitCode.DONE


def _change(
    path: Path, run: "RunFile", outcomes: "Sequence[Outcome]", *, write: bool
) -> tuple[str, str]:
    """Return the proposed change as a diff, made if asked, and why there is none."""
    from pipeline.review.edits import diff, reworded  # noqa: PLC0415

    changes = {found.before: found.after for found in outcomes if found.better}
    if not changes:
        return "", "no wording is better beyond chance"
    if isinstance(run.source.queries, str):
        reason = f"the queries are in {run.source.queries}; change them there"
        if write:
            raise ConfigError(f"{path}: cannot be changed: {reason}")
        return "", reason
    before = path.read_text(encoding="utf-8")
    after = reworded(before, str(path), changes)
    if write:
        part = path.with_name(f".{path.name}.part")
        part.write_text(after, encoding="utf-8")
        part.chmod(path.stat().st_mode)
        part.replace(path)
    return diff(before, after, str(path)), ""


def _text(outcomes: "Sequence[Outcome]", result: dict[str, Any], reason: str) -> str:
    lines = []
    for found in outcomes:
        low, high = found.gain_ci
        lines.append(f"{found.label}: {found.before!r} → {found.after!r}")
        lines += [f"  {score.iou:.3f}  {score.text}" for score in found.tried[:_SHOWN]]
        lines.append(
            f"  chosen on {found.chosen_on} images; on {found.judged} others mean IoU "
            f"{found.iou_before:.3f} → {found.iou_after:.3f}, gain {found.gain:+.3f} "
            f"[{low:+.3f}, {high:+.3f}]"
        )
        if found.failed:
            lines.append(f"  {found.failed} images failed and are left out")
    lines.append(result["diff"].rstrip() or reason)
    if result["written"]:
        lines.append("written")
    elif result["diff"]:
        lines.append("--write makes this change")
    return "\n".join(lines)
