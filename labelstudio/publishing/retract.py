"""Taking a bad model version's predictions back from tasks that nobody has touched."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import SecretStr

from labelstudio.client import LabelStudioClient, Project
from labelstudio.projects import run_projects
from labelstudio.publishing.ledger import Entry, Ledger, retracted
from labelstudio.publishing.published import PublishedTasks
from labelstudio.publishing.reconcile import blocks, reconcile, settle
from labelstudio.publishing.replacing import Rows, clear, untouched
from labelstudio.publishing.retractions import Retractions
from labelstudio.settings import LabelStudioSettings
from pipeline.errors import LabelStudioError
from pipeline.storage.store import Store


@dataclass(frozen=True, slots=True)
class RetractSummary:
    """What a retraction did, in tasks.

    Attributes:
        model_version: whose predictions were taken back.
        retracted: show nothing now.
        kept: somebody has worked on them, so they keep the prediction that person started from.
        projects: the numbers of the run's projects, in the order of their parts.
        seconds: wall time.
    """

    model_version: str
    retracted: int
    kept: int
    projects: tuple[int, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Back:
    """How many tasks lost a retracted prediction, and how many keep one."""

    retracted: int
    kept: int


def retract(
    model_version: str,
    *,
    settings: LabelStudioSettings,
    token: SecretStr,
    store: Store,
    progress: Callable[[int], None],
    known: bool = False,
) -> RetractSummary:
    """Note on the store that a version is bad, then take its untouched predictions back.

    A task shows its image and no prediction afterwards, until another version is published.
    Killed anywhere, it is finished by running it again, or by the next publish.

    Args:
        model_version: whose predictions to take back, as the tables name it.
        settings: where they are shown.
        token: API token of a user who may edit the projects.
        store: where the ledger is kept.
        progress: called with how many more tasks have been looked at.
        known: the version is no slip of the pen, even if nothing shows it.

    Raises:
        LabelStudioError: nothing shows a version that is not ``known``, or the server is down or
            refuses. Run again to go on.
        StorageError: the store failed.
        StoppedError: another run publishes from this store.
    """
    started = time.monotonic()
    client = LabelStudioClient(settings.url, token)
    client.check()
    projects = run_projects(client, settings)
    ledger = Ledger(store, projects)
    retractions = Retractions(store)
    if not known and model_version not in retractions.versions():
        _check_known(client, ledger, model_version, projects)
    retractions.note(model_version, retracted=True)
    settle(client, ledger)
    reconcile(client, ledger, lambda _: progress(0))
    back = take_back(client, ledger, store, frozenset([model_version]), progress=progress)
    for project in projects:
        if project.model_version == model_version:
            client.show_model_version(project.id, _most_used(client, project.id, model_version))
    return RetractSummary(
        model_version=model_version,
        retracted=back.retracted,
        kept=back.kept,
        projects=tuple(project.id for project in projects),
        seconds=time.monotonic() - started,
    )


def take_back(
    client: LabelStudioClient,
    ledger: Ledger,
    store: Store,
    versions: frozenset[str],
    progress: Callable[[int], None],
) -> Back:
    """Delete predictions of ``versions`` from tasks that nobody has touched, and note it."""
    if not versions:
        return Back(0, 0)
    entries = ledger.entries().items()
    showing = [(key, entry) for key, entry in entries if _may_show(entry, versions)]
    return empty(client, ledger, store, showing, versions, progress=progress)


def empty(
    client: LabelStudioClient,
    ledger: Ledger,
    store: Store,
    tasks: Sequence[tuple[str, Entry]],
    versions: frozenset[str],
    *,
    progress: Callable[[int], None],
) -> Back:
    """Let those of some tasks that nobody has touched show nothing of ``versions``, and note it."""
    gone = kept = 0
    for project, block in blocks(client, tasks):
        entries = {entry.task: (key, entry) for key, entry in block}
        rows = untouched(client, project, {number: key for number, (key, _) in entries.items()})
        cleared = clear(client, project, _meant(client, rows, entries, versions), versions)
        last = PublishedTasks(store).predictions(key for key, _ in block)
        ledger.write([retracted(*entries[number], last[entries[number][0]]) for number in cleared])
        gone += len(cleared)
        kept += sum(not entry.doubtful and entry.task not in rows for _, entry in block)
        progress(len(block))
    return Back(gone, kept)


def _may_show(entry: Entry, versions: frozenset[str]) -> bool:
    """Return whether a task shows one of the versions, or may: a doubtful one is looked at."""
    return entry.doubtful or (entry.shows and entry.model_version in versions)


def _meant(
    client: LabelStudioClient,
    rows: Rows,
    entries: dict[int, tuple[str, Entry]],
    versions: frozenset[str],
) -> Rows:
    """Return the tasks without those whose only prediction turns out to be another version's."""
    chosen = dict(rows)
    for number in rows:
        if entries[number][1].doubtful:
            shown = {prediction["model_version"] for prediction in client.predictions(number)}
            if not shown & versions:
                del chosen[number]
    return chosen


def _check_known(
    client: LabelStudioClient, ledger: Ledger, model_version: str, projects: Sequence[Project]
) -> None:
    """Make sure that the version is not a slip of the pen."""
    known = {entry.model_version for entry in ledger.entries().values()}
    for project in projects:
        known.update(client.model_versions(project.id))
    if model_version not in known:
        named = ", ".join(sorted(known - {""})) or "none at all"
        raise LabelStudioError(
            f"no task shows model version {model_version!r}; the run's projects show {named}"
        )


def _most_used(client: LabelStudioClient, project: int, but: str) -> str:
    """Return the version that most of a project's predictions are of; empty if there is none."""
    counts = {
        name: count
        for name, count in client.model_versions(project).items()
        if name != but and count
    }
    return max(counts, key=lambda name: counts[name], default="")
