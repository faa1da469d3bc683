"""Predictions into Label Studio: it shows what the store says, whatever was interrupted before.

The recipe: open the run's projects, settle what an interrupted run left open, compare the ledger
with the server, send what is missing or out of date, take back what is retracted.

One writer sends tasks in batches. Before a batch goes out, the ledger notes that it will; the
numbers of the tasks it made are noted with the next batch. So after a kill only the last batch is
in doubt, and only its tasks are looked up on the server, by the key in their data.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pydantic import SecretStr

from labelstudio.client import LabelStudioClient, Project
from labelstudio.publishing.ledger import RETRACTED, Entry, Ledger
from labelstudio.publishing.parts import Parts
from labelstudio.publishing.payload import SHOWING, image_digest, task_key, tasks_of
from labelstudio.publishing.reconcile import reconcile, settle
from labelstudio.publishing.retract import empty, take_back
from labelstudio.publishing.retractions import Retractions
from labelstudio.publishing.showing import Showing
from labelstudio.publishing.writer import Writer
from labelstudio.settings import LabelStudioSettings
from pipeline.records import Prediction
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import Store


@dataclass(frozen=True, slots=True)
class PublishSummary:
    """What a publish did, in tasks.

    Attributes:
        created: new ones.
        existing: were there and are left as they are: up to date, or somebody has worked on them.
        replaced: were there, untouched, and show other predictions now.
        retracted: were there, untouched, and show nothing now: what they showed is retracted, or
            the image needs fewer tasks.
        failed: could not be shown; ``failures`` says why.
        failures: a sentence for each of those.
        projects: the numbers of the run's projects, in the order of their parts.
        seconds: wall time.
    """

    created: int
    existing: int
    replaced: int
    retracted: int
    failed: int
    failures: tuple[str, ...]
    projects: tuple[int, ...]
    seconds: float


def publish(
    images: Iterable[Sequence[Prediction]],
    *,
    run: str,
    settings: LabelStudioSettings,
    token: SecretStr,
    store: Store,
    s3: S3Settings,
    labels: Sequence[str],
    progress: Callable[[int], None],
    showing: Showing = SHOWING,
) -> PublishSummary:
    """Make Label Studio hold the tasks of ``images``.

    Args:
        images: all predictions of one image at a time, of one model version.
        run: the run's name, part of the tasks' identity.
        settings: where to, and the limits of a task.
        token: API token (legacy or personal access) of a user who may edit the projects.
        store: where the ledger is kept.
        s3: how images in S3 are reached.
        labels: every label of the run, in the order to show them in.
        progress: called with how many more tasks are as they should be, between two batches;
            what it raises ends the publishing in good order.
        showing: who sees them, and in which order.

    Raises:
        LabelStudioError: the server is down, refuses, cannot show the images, or holds another
            project of that name; or the model version is retracted. Run again to go on.
        StorageError: the store failed.
        StoppedError: another run publishes from this store.
    """
    started = time.monotonic()
    client = LabelStudioClient(settings.url, token)
    client.check()
    parts = Parts(client, settings, labels, s3)
    ledger = Ledger(store, parts.projects)
    retractions = Retractions(store)
    settle(client, ledger)
    reconcile(client, ledger, lambda _: progress(0))
    ours = ledger.model_versions
    batch = settings.batch_tasks
    plan = _Plan(run, settings, showing, retractions)
    with Writer(client, parts, ledger, batch_tasks=batch, ours=ours, progress=progress) as writer:
        sent = _send(images, plan, ledger, writer, progress)
    emptied = empty(client, ledger, store, sent.surplus, ours, progress=progress)
    back = take_back(client, ledger, store, frozenset(retractions.versions()), progress=progress)
    _show_version(client, parts.projects, sent.most_used)
    return PublishSummary(
        created=writer.created,
        existing=sent.existing + writer.unchanged,
        replaced=writer.replaced,
        retracted=back.retracted + emptied.retracted,
        failed=len(writer.failures),
        failures=tuple(writer.failures),
        projects=tuple(project.id for project in parts.projects),
        seconds=time.monotonic() - started,
    )


@dataclass(frozen=True, slots=True)
class _Plan:
    """What decides about the tasks of an image."""

    run: str
    settings: LabelStudioSettings
    showing: Showing
    retractions: Retractions


@dataclass(slots=True)
class _Sent:
    """What was found on the way: tasks that were up to date, and those no longer needed.

    ``versions`` counts the images of each model version.
    """

    existing: int
    surplus: list[tuple[str, Entry]]
    versions: Counter[str]

    @property
    def most_used(self) -> str:
        """The version of the most images, of two with as many the later one; empty for none."""
        return max(reversed(self.versions), key=lambda name: self.versions[name], default="")


def _send(
    images: Iterable[Sequence[Prediction]],
    plan: _Plan,
    ledger: Ledger,
    writer: Writer,
    progress: Callable[[int], None],
) -> _Sent:
    """Send the tasks that are missing or show something else."""
    sent = _Sent(0, [], Counter())
    for predictions in images:
        version = predictions[0].model_version
        if version not in sent.versions:
            plan.retractions.refuse(version)
        sent.versions[version] += 1
        needed = _shown(ledger, plan.run, predictions, plan.showing)
        if needed:
            sent.existing += needed
            progress(needed)
        else:
            tasks = tasks_of(predictions, plan.run, plan.settings, plan.showing)
            needed = len(tasks)
            for task in tasks:
                writer.add(task)
        sent.surplus += _surplus(ledger, plan.run, predictions[0].image_id, needed)
    writer.send()
    return sent


def _shown(ledger: Ledger, run: str, predictions: Sequence[Prediction], showing: Showing) -> int:
    """Return how many tasks show exactly these predictions; 0 if any of them is missing."""
    digest = image_digest(predictions, showing)
    first = ledger.entry(task_key(run, predictions[0].image_id, 0))
    if first is None:
        return 0
    keys = [task_key(run, predictions[0].image_id, number) for number in range(first.siblings)]
    entries = [ledger.entry(key) for key in keys]
    if all(entry is not None and entry.task and entry.digest == digest for entry in entries):
        return len(entries)
    return 0


def _surplus(ledger: Ledger, run: str, image_id: str, needed: int) -> list[tuple[str, Entry]]:
    """Return an image's tasks beyond those that it needs, which still show something."""
    beyond = ledger.of_image(run, image_id, needed)
    return [(key, entry) for key, entry in beyond if entry.digest != RETRACTED]


def _show_version(client: LabelStudioClient, projects: Sequence[Project], version: str) -> None:
    """Let annotators start from a version's predictions wherever there are any."""
    for project in projects:
        if project.model_version != version and version in client.model_versions(project.id):
            client.show_model_version(project.id, version)
