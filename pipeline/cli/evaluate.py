"""``readloop evaluate``: the published protocols."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.terminal import chatter_on_stderr, stop_on_signals
from pipeline.errors import ConfigError

NAMES = "reasonseg, refcoco, refcoco+, refcocog, fprefcoco, fprefcoco+, fprefcocog"
PRECISIONS = ("float32", "bfloat16", "float16")


def evaluate(
    dataset: Annotated[str, typer.Option(help=f"One of {NAMES}.")],
    root: Annotated[Path, typer.Option(help="Where the set was unpacked.")],
    split: Annotated[str, typer.Option(help="val, test, testA, testB or train.")],
    model: Annotated[str, typer.Option(help="Folder, s3://BUCKET/PREFIX or hub id.")],
    *,
    split_by: Annotated[str | None, typer.Option(help="Whose splits, as in refs(NAME).p.")] = None,
    store: Annotated[
        str | None,
        typer.Option(help="Directory or s3:// for the answers; runs/evaluate/DATASET/SPLIT."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N images.")] = None,
    replicas: Annotated[int, typer.Option(min=1, help="Copies of the model.")] = 1,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs a replica.")] = 0,
    precision: Annotated[str, typer.Option(help=" or ".join(PRECISIONS))] = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object only.")] = False,
) -> int:
    """Measure a model on a published set, with its files, its protocol and its measures.

    Answers are committed as they come: started again, it goes on where it stopped. Ends with 0
    done, 1 bad input, 2 some queries failed and the figures lack them, 3 stopped.

    --json prints one object. giou, ciou, see_accuracy: shares in [0, 1]; giou_ci, ciou_ci: [low,
    high], 95 % over resampled images; queries, images, absent: counts; giou_present,
    ciou_present: without the queries whose object is absent; denied_absent, denied_present:
    shares of absent and of present objects denied in words; corrected_absent: of those false
    expressions whose true one is known, how many denials quote it; dialogue_loss: nats a token
    over the dialogue_tokens of plain answers; failed: queries without a prediction; dataset,
    split, model_version, model (its source, pinned), store. null: nothing to count.
    """
    from pipeline.evaluate import evaluate as measure  # noqa: PLC0415
    from pipeline.progress import Progress  # noqa: PLC0415
    from workers.settings import PoolSettings  # noqa: PLC0415

    if precision not in PRECISIONS:
        raise ConfigError(f"--precision {precision}: choose one of {', '.join(PRECISIONS)}")
    settings = {"replicas": replicas, "gpus": gpus, "precision": precision}
    with chatter_on_stderr(), stop_on_signals() as stop:
        progress = Progress()
        try:
            evaluation = measure(
                dataset,
                root,
                split,
                model=model,
                store=store or f"runs/evaluate/{dataset}/{split}",
                pool=PoolSettings.model_validate(settings),
                split_by=split_by,
                limit=limit,
                stop=stop,
                progress=progress,
            )
        finally:
            progress.end()
    typer.echo(json.dumps(evaluation.to_json()) if as_json else evaluation.to_text())
    return evaluation.exit_code
