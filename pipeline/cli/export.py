"""``readloop export``: masks as files that other tools train on."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.terminal import chatter_on_stderr, stop_on_signals
from pipeline.errors import ConfigError, ExitCode

WHATS = ("corrections", "predictions")
FORMATS = ("coco", "coco-polygons", "yolo", "png", "parquet")


def export(
    run_file: Annotated[Path, typer.Argument(metavar="RUN.yaml", help="The run file.")],
    what: Annotated[str, typer.Option(help=" or ".join(WHATS) + ".")],
    fmt: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")],
    out: Annotated[Path, typer.Option(help="Folder to make; it appears when it is complete.")],
    *,
    instances: Annotated[
        bool, typer.Option("--instances", help="One mask for each connected part.")
    ] = False,
    min_pixels: Annotated[int, typer.Option(min=1, help="Drop smaller parts (instances).")] = 16,
    tolerance: Annotated[
        float, typer.Option(min=0, max=100, help="Pixels a polygon may leave the outline; 0 exact.")
    ] = 0.5,
    val: Annotated[float, typer.Option(min=0, max=0.9, help="Share of groups to split off.")] = 0,
    complete: Annotated[
        bool, typer.Option("--complete", help="Only images with an answer for every label.")
    ] = False,
    images: Annotated[bool, typer.Option("--images", help="Copy the images too.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an earlier export.")] = False,
    version: Annotated[
        str | None, typer.Option(help="Predictions of another model version, or import:…")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object only.")] = False,
) -> int:
    """Write a run's masks for training: what people corrected, or what the model predicted.

    Only what the run file asks now is exported. DIR appears when it is complete, with
    export.json, whose content --json prints. images, present, absent, unknown: images, and
    (image, label) in them with a mask, known to be empty, and without an answer. partial_images:
    images without an answer for some label of the run. masks: written ones. splits: images in
    each. overlaps: what exclusive labels lost to stronger ones. instances: parts kept and dropped.
    polygons: how far they are from the masks. left_out: what is asked and was not exported, and
    why. categories: id and name. model_version, table_version: what was read.
    """
    from pipeline.config import load_run_file  # noqa: PLC0415
    from pipeline.exchange.export import Shaping  # noqa: PLC0415
    from pipeline.export_masks import ExportRequest, export_masks  # noqa: PLC0415
    from pipeline.progress import Progress  # noqa: PLC0415

    if what not in WHATS:
        raise ConfigError(f"--what {what}: choose {' or '.join(WHATS)}")
    if fmt not in FORMATS:
        raise ConfigError(f"--format {fmt}: choose one of {', '.join(FORMATS)}")
    if fmt == "png" and instances:
        raise ConfigError("--format png holds no instances: leave --instances out")
    if version is not None and what == "corrections":
        raise ConfigError("--version chooses predictions: leave it out for corrections")
    shaping = Shaping(fmt, instances, min_pixels, tolerance, val)  # type: ignore[arg-type]
    request = ExportRequest(what, shaping, out, complete, images, replace, version)  # type: ignore[arg-type]
    with chatter_on_stderr(), stop_on_signals() as stop:
        progress = Progress()
        try:
            manifest = export_masks(load_run_file(run_file), request, stop, progress)
        finally:
            progress.end()
    typer.echo(json.dumps(manifest) if as_json else _text(manifest))
    return ExitCode.DONE


def _text(manifest: dict[str, Any]) -> str:
    lines = [
        f"{manifest['images']} images, {manifest['masks']} masks; labels present "
        f"{manifest['present']}, absent {manifest['absent']}, unknown {manifest['unknown']}",
    ]
    if manifest["partial_images"]:
        lines.append(
            f"{manifest['partial_images']} images lack an answer for some label, which training "
            "may take for its absence; --complete leaves them out"
        )
    for split, images in manifest["splits"].items():
        if not images:
            lines.append(f"no image is in split {split}: groups stay whole; try another --val")
    for name in ("left_out", "overlaps", "instances", "polygons"):
        told = {key: value for key, value in (manifest.get(name) or {}).items() if value}
        if told:
            listed = ", ".join(f"{key} {value}" for key, value in told.items())
            lines.append(f"{name.replace('_', ' ')}: {listed}")
    return "\n".join([*lines, manifest["out"]])
