"""``readloop explain``: one answer from the inside, as a figure and as numbers."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.terminal import chatter_on_stderr
from pipeline.errors import ExitCode, InputError

if TYPE_CHECKING:
    from workers.read.explain import SegInside

LABELS = {"positive": 1, "negative": 0, "neutral": -1}


def explain(
    image: Annotated[str, typer.Argument(help="Path or s3:// address of a picture.")],
    query: Annotated[str, typer.Argument(help="What to look for.")],
    model: Annotated[str, typer.Option(help="Folder, s3://BUCKET/PREFIX or hub id.")],
    *,
    out: Annotated[Path, typer.Option(help="Where to draw the figure (PNG).")],
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N, or auto: all GPUs.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object only.")] = False,
) -> int:
    """Look inside an answer: what [SEG] resembles in the language model and in SAM's decoder.

    Draws picture, both similarity maps, points, and the mask with and without them.

    --json prints one object: answer, width, height, model_version and segments, each with
    spearman (rank correlation of both maps on the language model's cells), language_iou and
    decoder_iou (each map, normalized and cut at 0.5, against the mask), sasp_iou (masks with and
    without points), mask_area, area_with_points, area_without_points (pixels) and points (counts).
    A figure that is not defined, such as the IoU of two empty masks, is null.
    """
    with chatter_on_stderr():
        shown = explain_one(image, query, model, out, device)
    typer.echo(json.dumps(shown) if as_json else "\n".join(_lines(shown)))
    return ExitCode.DONE


def explain_one(image: str, query: str, model: str, out: Path, device: str) -> dict[str, Any]:
    """Explain one answer, draw it to ``out``, and return the documented keys.

    Raises:
        InputError: the image or the query cannot be used, or ``out`` cannot be written.
        ModelUnusableError: the model cannot be used.
        StorageError: the image's store refused or broke.
    """
    from pipeline.cli.predict import prepare, write  # noqa: PLC0415
    from workers.read import explain as inside  # noqa: PLC0415
    from workers.read.errors import QueryError  # noqa: PLC0415
    from workers.read.figure import figure  # noqa: PLC0415
    from workers.settings import LimitSettings  # noqa: PLC0415

    pixels, engine = prepare(image, model, device)
    limit = LimitSettings().query_characters
    try:
        found = inside.explain(engine, pixels, query, max_query_characters=limit)
    except QueryError as error:
        raise InputError(f"query {query[:60]!r}: {error}") from error
    write(out, figure(pixels, query, found))
    return {
        "answer": found.text,
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "model_version": engine.version,
        "segments": [
            {**asdict(inside.agreement(segment)), **_counts(segment)} for segment in found.segments
        ],
    }


def _counts(segment: "SegInside") -> dict[str, Any]:
    labels = segment.point_labels
    return {
        "mask_area": int(segment.mask.sum()),
        "area_with_points": int(segment.with_points.sum()),
        "area_without_points": int(segment.without_points.sum()),
        "points": {name: int((labels == label).sum()) for name, label in LABELS.items()},
    }


def _lines(shown: dict[str, Any]) -> list[str]:
    lines = [str(shown["answer"])]
    if not shown["segments"]:
        lines.append("no [SEG]: not in this image")
    for segment in shown["segments"]:
        lines += [f"{name}: {value}" for name, value in segment.items()]
    return lines
