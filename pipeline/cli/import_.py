"""``readloop import``: existing masks into a run's store."""

import json
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.terminal import chatter_on_stderr, stop_on_signals
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.import_masks import ImportSummary

TARGETS = ("corrections", "predictions")
FORMATS = ("coco", "png")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def import_(
    run_file: Annotated[Path, typer.Argument(metavar="RUN.yaml", help="The run file.")],
    source: Annotated[str, typer.Argument(help="COCO file or folder of PNGs, local or s3://.")],
    target: Annotated[str, typer.Option("--as", help=" or ".join(TARGETS) + ".")],
    fmt: Annotated[str, typer.Option("--format", help=" or ".join(FORMATS) + ".")],
    *,
    name: Annotated[str | None, typer.Option(help="What to call it; the source's name.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="CATEGORY=LABEL where they are called differently.")
    ] = None,
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="A category without a mask is absent.")
    ] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Leave out what does not fit.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object only.")] = False,
) -> int:
    """Bring existing masks in, as corrections (to learn from) or predictions (to be corrected).

    Images are matched by their paths, categories by their names. Nothing is written if something
    does not fit, unless --partial. Importing again adds nothing. Predictions are shown by
    'readloop publish RUN.yaml --version VERSION'. Ends with 0 done, 1 bad input, 2 done with
    something left out, 3 stopped.

    --json prints one object. images, present, absent: what fits, in images and (image, label).
    masks, crowds: of the source. new, updated, existing: rows. left_out: problems by kind, and
    problems: the first of them. model_version: of predictions. seconds.
    """
    from pipeline.config import load_run_file  # noqa: PLC0415
    from pipeline.import_masks import ImportRequest, import_masks  # noqa: PLC0415
    from pipeline.progress import Progress  # noqa: PLC0415

    if target not in TARGETS:
        raise ConfigError(f"--as {target}: choose {' or '.join(TARGETS)}")
    if fmt not in FORMATS:
        raise ConfigError(f"--format {fmt}: choose {' or '.join(FORMATS)}")
    request = ImportRequest(
        source=source,
        target=target,  # type: ignore[arg-type]
        format=fmt,  # type: ignore[arg-type]
        name=_name(name, source),
        labels=_renamed(label or []),
        exhaustive=exhaustive,
        partial=partial,
    )
    with chatter_on_stderr(), stop_on_signals() as stop:
        progress = Progress()
        try:
            summary = import_masks(load_run_file(run_file), request, stop, progress)
        finally:
            progress.end()
    typer.echo(json.dumps(summary.to_json()) if as_json else _text(summary))
    return summary.exit_code


def _name(given: str | None, source: str) -> str:
    name = given or re.sub(r"[^A-Za-z0-9._-]+", "-", PurePosixPath(source).stem).lstrip("._-")[:63]
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"--name {name!r}: use up to 63 letters, digits, '.', '_' and '-', a letter or digit "
            "first"
        )
    return name


def _renamed(pairs: list[str]) -> dict[str, str]:
    renamed: dict[str, str] = {}
    for pair in pairs:
        category, equals, label = pair.rpartition("=")
        if not equals or not category or not label:
            raise ConfigError(f"--label {pair}: write CATEGORY=LABEL")
        if category in renamed:
            raise ConfigError(f"--label {pair}: {category!r} has a label already")
        renamed[category] = label
    return renamed


def _text(summary: "ImportSummary") -> str:
    lines = [
        f"{summary.images} images: {summary.present} present, {summary.absent} absent; "
        f"{summary.new} new, {summary.updated} updated, {summary.existing} were there before"
    ]
    if summary.left_out:
        counted = ", ".join(f"{count} {kind}" for kind, count in summary.left_out.items())
        lines += [f"left out: {counted}", *(f"  {problem}" for problem in summary.problems)]
    if summary.model_version:
        lines.append(f"show them with: readloop publish RUN.yaml --version {summary.model_version}")
    return "\n".join(lines)
