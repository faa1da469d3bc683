"""The one writer of a project: batches of new tasks, and newer predictions on old ones."""

from collections.abc import Callable, Sequence
from typing import Self

from labelstudio.check import check_task
from labelstudio.client import LabelStudioClient, Project
from labelstudio.errors import RefusedError
from labelstudio.ledger import Ledger, Note
from labelstudio.payload import TaskPayload
from labelstudio.pictures import Pictures
from labelstudio.settings import LabelStudioSettings
from pipeline.errors import LabelStudioError
from pipeline.storage.settings import S3Settings

BATCH_BYTES = 32_000_000


class Writer:
    """Sends tasks; ``created``, ``updated``, ``unchanged`` and ``failures`` count them.

    A context manager: leaving it, for whatever reason, writes down what was made. ``progress``
    is told how many more tasks are done after each batch.
    """

    def __init__(
        self,
        client: LabelStudioClient,
        project: Project,
        ledger: Ledger,
        *,
        settings: LabelStudioSettings,
        s3: S3Settings,
        progress: Callable[[int], None],
    ) -> None:
        self._client = client
        self._project = project
        self._ledger = ledger
        self._progress = progress
        self._batch_tasks = settings.batch_tasks
        self._pictures = Pictures(client, project.id, s3)
        self._new: list[TaskPayload] = []
        self._bytes = 0
        self._old: list[TaskPayload] = []
        self._made: list[Note] = []
        self.created = 0
        self.updated = 0
        self.unchanged = 0
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ledger.write(self._made)

    def add(self, task: TaskPayload) -> None:
        """Take a task, and send a batch when there are enough.

        Raises:
            LabelStudioError: the server went away, refuses the token or cannot show an image.
        """
        try:
            check_task(task, self._project.controls)
        except LabelStudioError as error:
            self.failures.append(str(error))
            return
        entry = self._ledger.entry(task.key)
        if entry is not None and entry.digest == task.digest:
            self.unchanged += 1
        elif entry is not None:
            self._add_old(task)
        else:
            self._add_new(task)

    def send(self) -> None:
        """Send what has been taken and is not sent yet."""
        self._send_old()
        self._send_new()

    def _add_new(self, task: TaskPayload) -> None:
        size = sum(part.size for part in task.parts)
        if self._bytes + size > BATCH_BYTES:
            self._send_new()
        self._new.append(task)
        self._bytes += size
        if len(self._new) >= self._batch_tasks:
            self._send_new()

    def _add_old(self, task: TaskPayload) -> None:
        self._old.append(task)
        if len(self._old) >= self._batch_tasks:
            self._send_old()

    def _send_new(self) -> None:
        tasks, self._new, self._bytes = self._new, [], 0
        if not tasks:
            return
        addresses = self._pictures.addresses(task.image for task in tasks)
        self._ledger.write([*self._made, *(Note(task, 0) for task in tasks)])
        self._made = []
        self._import(tasks, [task.body(addresses[task.image]) for task in tasks])
        self._progress(len(tasks))

    def _import(self, tasks: Sequence[TaskPayload], bodies: Sequence[bytes]) -> None:
        """Import tasks; halve a batch that is refused until the refused ones stand alone."""
        try:
            numbers = self._client.import_tasks(self._project.id, bodies)
        except RefusedError as error:
            if len(tasks) == 1:
                self.failures.append(f"the task for {tasks[0].image} was refused: {error}")
                return
            half = len(tasks) // 2
            self._import(tasks[:half], bodies[:half])
            self._import(tasks[half:], bodies[half:])
            return
        self._made += [Note(task, number) for task, number in zip(tasks, numbers, strict=True)]
        self.created += len(tasks)

    def _send_old(self) -> None:
        """Put newer predictions on tasks that still carry their keys; make the others anew."""
        tasks, self._old = self._old, []
        found = self._client.find_tasks(self._project.id, [task.key for task in tasks])
        there = [task for task in tasks if task.key in found]
        addresses = self._pictures.addresses(task.image for task in there)
        for task in tasks:
            if task.key in found:
                self._update(task, found[task.key][0], addresses[task.image])
            else:
                self._add_new(task)
        self._progress(len(there))

    def _update(self, task: TaskPayload, number: int, address: str) -> None:
        """Show other predictions on a task; those of other model versions stay."""
        self._client.update_data(number, task.data(address))
        wanted = task.predictions()
        ids = {region["id"] for shown in wanted for region in shown["result"]}
        present = not wanted
        for old in self._client.predictions(number):
            if {region.get("id") for region in old["result"]} == ids:
                present = True
            elif old["model_version"] == task.model_version:
                self._client.delete_prediction(old["id"])
        if not present:
            self._client.add_prediction(number, wanted[0])
        self._made.append(Note(task, number))
        self.updated += 1
