"""Predictions into Label Studio: each image's tasks once, whatever was interrupted before.

One writer sends tasks in batches. Before a batch goes out, the ledger notes that it will; the
numbers of the tasks it made are noted with the next batch. So after a kill only the last batch is
in doubt, and only its tasks are looked up on the server, by the key in their data.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pydantic import SecretStr

from labelstudio.client import LabelStudioClient
from labelstudio.ledger import Ledger
from labelstudio.payload import SHOWING, image_digest, task_key, tasks_of
from labelstudio.projects import open_project
from labelstudio.settings import LabelStudioSettings
from labelstudio.showing import Showing
from labelstudio.writer import Writer
from pipeline.records import Prediction
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import Store

SETTLE_SECONDS = 20.0
_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class PublishSummary:
    """What a publish did, in tasks.

    ``created`` are new, ``existing`` were there and up to date, ``updated`` were there and got
    newer predictions, ``failed`` could not be shown (``failures`` says why). ``projects`` are the
    numbers of the projects, ``seconds`` the time it took.
    """

    created: int
    existing: int
    updated: int
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
        token: API token (legacy or personal access) of a user who may edit the project.
        store: where the ledger is kept.
        s3: how images in S3 are reached.
        labels: every label of the run, in the order to show them in.
        progress: called with how many more tasks are as they should be, between two batches;
            what it raises ends the publishing in good order.
        showing: who sees them, and in which order.

    Raises:
        LabelStudioError: the server is down, refuses, cannot show the images, or holds another
            project of that name. Run again to go on.
        StorageError: the store failed.
        StoppedError: another run publishes from this store.
    """
    started = time.monotonic()
    client = LabelStudioClient(settings.url, token)
    client.check()
    project = open_project(client, settings.project, labels)
    ledger = Ledger(store, project)
    _settle(client, ledger, project.id)
    _notice_deleted(client, ledger, project.id, project.tasks)
    version = project.model_version
    existing = 0
    with Writer(client, project, ledger, settings=settings, s3=s3, progress=progress) as writer:
        for predictions in images:
            version = predictions[0].model_version
            if shown := _shown(ledger, run, predictions, showing):
                existing += shown
                progress(shown)
                continue
            for task in tasks_of(predictions, run, settings, showing):
                writer.add(task)
        writer.send()
    if version != project.model_version:
        client.show_model_version(project.id, version)
    return PublishSummary(
        created=writer.created,
        existing=existing + writer.unchanged,
        updated=writer.updated,
        failed=len(writer.failures),
        failures=tuple(writer.failures),
        projects=(project.id,),
        seconds=time.monotonic() - started,
    )


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


def _settle(client: LabelStudioClient, ledger: Ledger, project: int) -> None:
    """Find out about tasks that an interrupted run sent without hearing back.

    A batch is stored whole or not at all. While the server may still be at it, absence proves
    nothing, so an absent batch is looked up again until it is old enough.
    """
    while doubtful := ledger.doubtful():
        found = {
            key: numbers[0] for key, numbers in client.find_tasks(project, list(doubtful)).items()
        }
        age = time.time() - max(entry.seconds for entry in doubtful.values())
        if len(found) == len(doubtful) or not 0 <= age < SETTLE_SECONDS:
            ledger.settle(found, [key for key in doubtful if key not in found])
            return
        time.sleep(_LOOK_SECONDS)


def _notice_deleted(client: LabelStudioClient, ledger: Ledger, project: int, tasks: int) -> None:
    """Forget tasks that are no longer in the project, so that they are made again."""
    if tasks >= ledger.made():
        return
    there = {task["data"].get("key") for task in client.tasks(project)}
    ledger.settle({}, [key for key in ledger.known() if key not in there])
