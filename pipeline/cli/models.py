"""``readloop models``: what a checkpoint is, told without loading it; and a store's versions."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import registry
from pipeline.cli.terminal import chatter_on_stderr
from pipeline.errors import ExitCode

if TYPE_CHECKING:
    from workers.read.inspection import Inspection

models = typer.Typer(
    help="Checkpoints: what they are, and the versions that a store holds.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


models.command("list")(registry.list_versions)
models.command()(registry.show)
models.command()(registry.diff)
models.command()(registry.promote)
models.command()(registry.rollback)
models.command()(registry.prune)


@models.command()
def inspect(
    source: Annotated[str, typer.Argument(help="Folder, s3://BUCKET/PREFIX or hub id[@REVISION].")],
    clip: Annotated[Path | None, typer.Option(help="Folder of the vision tower.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object only.")] = False,
) -> int:
    """Show family, sizes, special ids, settings and wrong keys of a checkpoint.

    No weight is read. Ends with 1 if a key is missing, unexpected or of another shape. A folder
    with configurations only shows what its weights have to be.

    --json prints one object: source (pinned to a commit), ok, family, sizes, special_ids,
    settings, vision_tower (null: not at hand, vision_tower_problem says why), files, dtypes,
    keys, ignored_keys, expected_keys, parameters, missing, unexpected, misshapen.
    """
    from workers.inspected import inspect_model  # noqa: PLC0415

    with chatter_on_stderr():
        pinned, found = inspect_model(source, clip, lambda text: typer.echo(text, err=True))
    shown = {"source": pinned, **found.to_json()}
    typer.echo(json.dumps(shown) if as_json else "\n".join(_lines(pinned, found)))
    return ExitCode.DONE if found.ok else ExitCode.BAD_INPUT


def _lines(source: str, found: "Inspection") -> list[str]:
    """Return the same for people: a line a fact, then a line a wrong key."""
    facts = found.to_json()
    lines = [f"{source}: {found.settings.family}"]
    lines += [f"{part}: {_pairs(sizes)}" for part, sizes in facts["sizes"].items()]
    lines += [f"{name}: {_pairs(facts[name])}" for name in ("special_ids", "settings")]
    lines.append(f"vision tower: {found.tower or found.tower_problem}")
    lines.append(
        f"weights: {found.keys} keys ({_pairs(facts['dtypes'])}), {found.ignored} not needed, "
        f"{found.expected_keys} needed, in {', '.join(found.files) or 'no file'}"
    )
    lines.append(f"parameters: {_pairs({k: f'{v:,}' for k, v in found.parameters.items()})}")
    differences = found.differences
    lines += [f"missing: {key}" for key in differences.missing]
    lines += [f"unexpected: {key}" for key in differences.unexpected]
    lines += [
        f"of another shape: {key}, found {shape}, expected {expected}"
        for key, shape, expected in differences.misshapen
    ]
    return [*lines, "complete" if found.ok else "NOT usable as it is"]


def _pairs(values: object) -> str:
    if not isinstance(values, dict):
        return str(values)
    return ", ".join(f"{key} {value}" for key, value in values.items())
