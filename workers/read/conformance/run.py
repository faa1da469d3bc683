"""Running every recorded case of the kinds that are known here."""

import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from workers.read.conformance import (
    evaluate,
    forms,
    preprocess,
    sam,
    sasp,
    tokenizer,
    training,
    validation,
)
from workers.read.conformance.cases import CaseResult, failure
from workers.read.conformance.entries import NOT_COMPARED, compare_listing
from workers.read.conformance.subject import Subject
from workers.read.errors import CheckpointError, ReadError

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Runner:
    """Which cases of a kind a folder lists, and how one of them is compared."""

    names: Callable[[Subject, str], list[str]]
    run: Callable[[Subject, str, str], Iterator[CaseResult]]


RUNNERS = {
    "preprocess": Runner(preprocess.names, preprocess.run),
    "preprocess_odd": Runner(preprocess.names, preprocess.run),
    "tokenizer": Runner(tokenizer.names, tokenizer.run),
    "sasp": Runner(sasp.names, sasp.run),
    "static": Runner(sam.names, sam.run),
    "evaluate": Runner(evaluate.names, evaluate.run),
    "train": Runner(training.names, training.run),
    "val": Runner(validation.names, validation.run),
    "checkpoint": Runner(forms.names, forms.run),
}

UNUSABLE = (
    ValueError,
    OSError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    AssertionError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What damaged or unknown recordings make a runner raise."""

LISTS = ("cases", "train", "sasp", "val", "files")
"""Parts of a manifest that list cases, and its files."""


def run_conformance(
    folder: str | Path,
    kinds: Collection[str] | None = None,
    progress: Progress | None = None,
) -> list[CaseResult]:
    """Run every case that ``folder/manifest.json`` lists, or those of ``kinds`` only.

    A listed case that cannot be run, of a kind that nothing here knows too, is a result that is
    not ok. ``progress`` is told each case's name as it begins, and with ``kinds`` what they leave
    out.

    Raises:
        ReadError: the folder has no manifest, no usable checkpoint, or no case of these kinds.
    """
    subject = Subject(Path(folder))
    chosen = {kind: RUNNERS[kind] for kind in (RUNNERS if kinds is None else kinds)}
    tell = progress or (lambda _: None)
    results = _unknown(subject) if kinds is None else []
    if kinds is not None:
        listed = Counter(subject.kinds().values())
        for kind in listed.keys() - chosen.keys():
            tell(f"left out: {listed[kind]} of kind {kind}")
    for kind, runner in chosen.items():
        results += _attempt(kind, "files", partial(compare_listing, subject, kind))
        names, wrong = _names(runner, subject, kind)
        results += wrong
        for name in names:
            tell(f"{kind} {name}")
            results += _run(runner, subject, kind, name)
    if not results:
        raise ReadError(f"{folder}: lists no case of {', '.join(chosen)}")
    return results


def report(results: Iterable[CaseResult]) -> dict[str, Any]:
    """Results as a JSON object, and what is recorded but not compared, with the reasons."""
    return {
        "cases": [asdict(result) for result in results],
        "not_compared": {kind: dict(reasons) for kind, reasons in NOT_COMPARED.items()},
    }


def table(results: Iterable[CaseResult]) -> list[str]:
    """Lines for a person: the worst difference of each array over all cases of its kind."""
    groups: dict[tuple[str, str], list[CaseResult]] = {}
    for result in results:
        groups.setdefault((result.kind, result.array), []).append(result)
    lines = [f"{'kind':15} {'array':44} {'cases':>5} {'worst':>10} {'tolerance':>10}"]
    for (kind, array), group in groups.items():
        worst = max(group, key=_severity)
        value = "-" if worst.max_abs is None else f"{worst.max_abs:.3g}"
        verdict = "" if worst.ok else f"  OVER in {worst.name}"
        lines.append(
            f"{kind:15} {array:44} {len(group):5} {value:>10} {worst.tolerance:10.3g}{verdict}"
        )
    return lines


def _unknown(subject: Subject) -> list[CaseResult]:
    """Failures for what a manifest lists that nothing here can run."""
    files = [
        failure(file, kind, "(not run: no such kind of case is known)")
        for file, kind in subject.kinds().items()
        if kind not in RUNNERS
    ]
    parts = [
        failure(part, part, "(not run: no such list of cases is known)")
        for part, content in subject.manifest.items()
        if part not in LISTS and isinstance(content, list | dict)
    ]
    return [*files, *parts]


def _names(runner: Runner, subject: Subject, kind: str) -> tuple[list[str], list[CaseResult]]:
    """Names of a kind's cases, and failures for those of which only one would be run."""
    try:
        names = runner.names(subject, kind)
    except UNUSABLE as error:
        return [], [failure(kind, kind, f"(not run: {type(error).__name__} {error})")]
    twice = [name for name, listed in Counter(names).items() if listed > 1]
    return list(dict.fromkeys(names)), [
        failure(name, kind, "(not run: another case has the same name)") for name in twice
    ]


def _run(runner: Runner, subject: Subject, kind: str, name: str) -> list[CaseResult]:
    results = _attempt(kind, name, partial(runner.run, subject, kind, name))
    return results or [failure(name, kind, "(not run: nothing was compared)")]


def _attempt(
    kind: str, name: str, compared: Callable[[], Iterator[CaseResult]]
) -> list[CaseResult]:
    """Compare; what a wrong recording raises is a failure of its case, and the others go on."""
    try:
        return list(compared())
    except CheckpointError:
        raise
    except UNUSABLE as error:
        return [failure(name, kind, f"(not run: {type(error).__name__} {error})")]


def _severity(result: CaseResult) -> tuple[bool, float]:
    """Order results: failed ones, then by the share of the bound that is used."""
    if result.max_abs is None:
        return True, float("inf")
    return not result.ok, result.max_abs / max(result.tolerance, 1e-30)
