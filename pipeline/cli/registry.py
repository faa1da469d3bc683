"""``readloop models list | show | diff | promote | rollback | prune``: the versions of a store."""

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.retract import take_back
from pipeline.errors import ConfigError, ExitCode, ReadloopError

if TYPE_CHECKING:
    from labelstudio.settings import LabelStudioSettings
    from pipeline.registry.lineage import Lineage, Pointer
    from pipeline.registry.registry import Registry
    from pipeline.storage.store import Store

Place = Annotated[
    str, typer.Argument(metavar="RUN.yaml", help="The run file, or the store's address itself.")
]
Version = Annotated[str, typer.Argument(help="A model version, as 'models list' shows it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object only.")]


def list_versions(place: Place, as_json: AsJson = False) -> int:
    """List the model versions of a store, oldest first.

    --json prints one object: store, current (null: none yet) and versions, each with version,
    parent, snapshot, source, code, created_at, passed (the gate let it through), current, pruned.
    """
    store, registry = _opened(place)
    pointer, pruned = registry.current(), registry.pruned()
    rows = [_row(lineage, pointer, pruned) for lineage in registry.lineages()]
    result = {
        "store": store.uri,
        "current": pointer.version if pointer else None,
        "versions": rows,
    }
    return _show(result, [_line(row) for row in rows] or ["no versions yet"], as_json)


def show(place: Place, version: Version, as_json: AsJson = False) -> int:
    """Show where a version comes from and how it was judged.

    --json prints one object: the keys of 'list', and weights (where they lie), settings, metrics,
    decision, and moves: when it became current, and how.
    """
    _, registry = _opened(place)
    lineage = registry.lineage(version)
    result = {
        **_row(lineage, registry.current(), registry.pruned()),
        "weights": registry.weights(version),
        "settings": lineage.settings,
        "metrics": lineage.metrics,
        "decision": lineage.decision,
        "moves": [_plain(entry) for entry in registry.chain() if entry.version == version],
    }
    return _show(result, [f"{key}: {value}" for key, value in result.items()], as_json)


def diff(place: Place, a: Version, b: Version, as_json: AsJson = False) -> int:
    """Show what differs between two versions: lineage, settings, measures.

    --json prints one object: a, b, and lineage, settings and metrics, each from a key to [value of
    a, value of b].
    """
    from pipeline.registry.difference import difference  # noqa: PLC0415

    _, registry = _opened(place)
    found = difference(registry.lineage(a), registry.lineage(b))
    result = {"a": a, "b": b, **asdict(found)}
    lines = [
        f"{part} {key}: {pair[0]} -> {pair[1]}"
        for part in ("lineage", "settings", "metrics")
        for key, pair in result[part].items()
    ]
    return _show(result, lines or ["no difference"], as_json)


def promote(
    place: Place,
    version: Version,
    *,
    force: Annotated[bool, typer.Option("--force", help="Also one that the gate refused.")] = False,
    as_json: AsJson = False,
) -> int:
    """Make a version current: 'model: registry' means it from then on.

    --json prints one object: the new entry of the chain (number, version, kind, previous,
    moved_at).
    """
    _, registry = _opened(place)
    lineage, pointer = registry.lineage(version), registry.current()
    if lineage.decision and not lineage.passed and not force:
        reasons = "; ".join(lineage.decision.get("reasons", []))
        raise ConfigError(f"{version}: the gate refused it ({reasons}); --force overrules that")
    if pointer and pointer.version == version:
        raise ConfigError(f"{version}: is current already")
    entry = _plain(registry.move(version, "promote", pointer))
    return _show(entry, [f"{version} is current, before it was {entry['previous']}"], as_json)


def rollback(
    place: Place,
    version: Annotated[
        str | None,
        typer.Argument(help="The bad version: a rollback of it is not done twice."),
    ] = None,
    *,
    retract: Annotated[
        bool,
        typer.Option("--retract", help="Also take back its predictions that nobody has touched."),
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Make the version current again that was so before the current one was promoted.

    --json prints one object: the new entry of the chain, and retract: the command that takes back
    what nobody has touched of the bad version's predictions (null if no Label Studio is known).
    With --retract that is done at once, and retracted holds what 'readloop retract' prints.
    """
    if retract:
        _check_shown(place)
    _, registry = _opened(place)
    pointer = registry.current()
    if pointer is None:
        raise ConfigError(f"{place}: no version is current, so there is nothing to roll back")
    bad = version or pointer.version
    entry = _plain(_rolled_back(registry, pointer, bad))
    shown = _is_run_file(place) and _labelstudio(place) is not None
    command = f"readloop retract {shlex.quote(place)} {bad}" if shown else None
    lines = [f"{entry['version']} is current again instead of {bad}"]
    if command and not retract:
        lines.append(f"to take back its predictions that nobody has touched: {command}")
    done: dict[str, Any] = {}
    if retract:
        try:
            done = {"retracted": take_back(Path(place), bad, known=True)}
        except ReadloopError:
            typer.echo(f"{lines[0]}, but its predictions are still shown: {command}", err=True)
            raise
        counts = done["retracted"]
        lines.append(f"{counts['retracted']} tasks retracted, {counts['kept']} kept: worked on")
    return _show({**entry, "retract": command, **done}, lines, as_json)


def prune(
    place: Place,
    *,
    keep: Annotated[int, typer.Option(min=0, help="So many newest versions stay.")] = 5,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Delete nothing.")] = False,
    as_json: AsJson = False,
) -> int:
    """Delete the weights of old versions that nothing refers to; their lineage stays.

    Those of a training that was left for a newer snapshot before it was judged go too. What is
    current, what a rollback would make current, and what a prediction, correction or snapshot
    refers to is never deleted. --json prints one object: pruned (versions), dry_run.
    """
    from pipeline.registry.references import prune_models  # noqa: PLC0415

    store, _ = _opened(place)
    versions = prune_models(store, keep, dry_run=dry_run)
    verb = "would be pruned" if dry_run else "pruned"
    lines = [f"{version} {verb}" for version in versions] or ["nothing to prune"]
    return _show({"pruned": versions, "dry_run": dry_run}, lines, as_json)


def _rolled_back(registry: "Registry", pointer: "Pointer", bad: str) -> "Pointer":
    """Return the entry that ended a bad version, which is made unless it is there."""
    if pointer.version == bad:
        return registry.move(registry.before(pointer), "rollback", pointer)
    if (pointer.kind, pointer.previous) == ("rollback", bad):
        return pointer
    raise ConfigError(f"{bad}: is not current, {pointer.version} is")


def _check_shown(place: str) -> None:
    """Make sure, before anything is moved, that there is a Label Studio to retract from."""
    from labelstudio.token import checked_token  # noqa: PLC0415

    if not _is_run_file(place):
        raise ConfigError(f"{place}: --retract needs the run file, which names Label Studio")
    settings = _labelstudio(place)
    if settings is None:
        raise ConfigError(f"{place}: no 'labelstudio' part, so there is nothing to retract")
    checked_token(settings)


def _labelstudio(place: str) -> "LabelStudioSettings | None":
    """Return where a run file shows its predictions."""
    from pipeline.config import load_run_file  # noqa: PLC0415

    return load_run_file(Path(place)).labelstudio


def _opened(place: str) -> "tuple[Store, Registry]":
    from pipeline.config import load_run_file  # noqa: PLC0415
    from pipeline.registry.registry import Registry  # noqa: PLC0415
    from pipeline.storage.settings import S3Settings  # noqa: PLC0415
    from pipeline.storage.store import open_store  # noqa: PLC0415

    if _is_run_file(place):
        run = load_run_file(Path(place))
        store = open_store(run.store, run.s3)
    else:
        store = open_store(place, S3Settings())
    return store, Registry(store)


def _is_run_file(place: str) -> bool:
    return place.endswith((".yaml", ".yml"))


def _row(lineage: "Lineage", pointer: "Pointer | None", pruned: set[str]) -> dict[str, Any]:
    return {
        "version": lineage.version,
        "parent": lineage.parent,
        "snapshot": lineage.snapshot,
        "source": lineage.source,
        "code": lineage.code,
        "created_at": lineage.created_at.isoformat(),
        "passed": lineage.passed if lineage.decision else None,
        "current": pointer is not None and pointer.version == lineage.version,
        "pruned": lineage.version in pruned,
    }


def _line(row: dict[str, Any]) -> str:
    origin = f"from {row['source']}" if row["source"] else f"{row['parent']} + {row['snapshot']}"
    gate = {True: "passed", False: "refused", None: "not judged"}[row["passed"]]
    marks = " current" * row["current"] + " pruned" * row["pruned"]
    return f"{row['version']}  {row['created_at'][:19]}  {origin}  {gate}{marks}"


def _plain(entry: "Pointer") -> dict[str, Any]:
    return {**asdict(entry), "moved_at": entry.moved_at.isoformat()}


def _show(result: dict[str, Any], lines: list[str], as_json: bool) -> int:
    typer.echo(json.dumps(result) if as_json else "\n".join(lines))
    return ExitCode.DONE
