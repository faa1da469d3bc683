"""The one writer of a run's projects: batches of new tasks, and newer predictions on old ones."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from labelstudio.check import check_task
from labelstudio.client import LabelStudioClient, Project
from labelstudio.errors import RefusedError
from labelstudio.ledger import Ledger, Note, about_to_make, about_to_replace, made
from labelstudio.parts import Parts
from labelstudio.payload import TaskPayload
from labelstudio.replacing import Rows, replace_predictions, untouched
from pipeline.errors import LabelStudioError

BATCH_BYTES = 32_000_000
# Label Studio counts a whole project anew for every request that adds predictions to tasks.
_OLD_TO_NEW = 5


class Writer:
    """Sends tasks; ``created``, ``replaced``, ``unchanged`` and ``failures`` count them.

    A context manager: leaving it, for whatever reason, writes down what was made. ``progress``
    is told how many more tasks are done after each batch. ``ours`` are the model versions whose
    predictions may be replaced.
    """

    def __init__(
        self,
        client: LabelStudioClient,
        parts: Parts,
        ledger: Ledger,
        *,
        batch_tasks: int,
        ours: frozenset[str],
        progress: Callable[[int], None],
    ) -> None:
        self._client = client
        self._parts = parts
        self._ledger = ledger
        self._progress = progress
        self._batch_tasks = batch_tasks
        self._ours = ours
        self._controls = parts.projects[0].controls
        self._new: list[TaskPayload] = []
        self._new_bytes = 0
        self._old: dict[int, dict[int, TaskPayload]] = defaultdict(dict)
        self._old_bytes: dict[int, int] = defaultdict(int)
        self._made: list[Note] = []
        self.created = 0
        self.replaced = 0
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
            check_task(task, self._controls)
        except LabelStudioError as error:
            self.failures.append(str(error))
            return
        entry = self._ledger.entry(task.key)
        if entry is None:
            self._add_new(task)
        elif entry.digest == task.digest:
            self.unchanged += 1
            self._progress(1)
        else:
            self._add_old(task, entry.project, entry.task)

    def send(self) -> None:
        """Send what has been taken and is not sent yet."""
        for project in list(self._old):
            self._send_old(project)
        self._send_new()

    def _add_new(self, task: TaskPayload) -> None:
        size = _size(task)
        if self._new_bytes + size > BATCH_BYTES:
            self._send_new()
        self._new.append(task)
        self._new_bytes += size
        if len(self._new) >= self._batch_tasks:
            self._send_new()

    def _add_old(self, task: TaskPayload, project: int, number: int) -> None:
        size = _size(task)
        if self._old_bytes[project] + size > BATCH_BYTES:
            self._send_old(project)
        self._old[project][number] = task
        self._old_bytes[project] += size
        most = min(_OLD_TO_NEW * self._batch_tasks, self._client.most_named(project))
        if len(self._old[project]) >= most:
            self._send_old(project)

    def _send_new(self) -> None:
        tasks, self._new, self._new_bytes = self._new, [], 0
        while tasks:
            project, room = self._parts.with_room(self._ledger.add_project)
            batch, tasks = tasks[:room], tasks[room:]
            addresses = self._parts.pictures(project.id).addresses(task.image for task in batch)
            self._write([about_to_make(task, project.id) for task in batch])
            bodies = [task.body(addresses[task.image]) for task in batch]
            self._import(project, batch, bodies)
            self._progress(len(batch))

    def _import(
        self, project: Project, tasks: Sequence[TaskPayload], bodies: Sequence[bytes]
    ) -> None:
        """Import tasks; halve a batch that is refused until the refused ones stand alone."""
        try:
            numbers = self._client.import_tasks(project.id, bodies)
        except RefusedError as error:
            if len(tasks) == 1:
                self.failures.append(f"the task for {tasks[0].image} was refused: {error}")
                return
            half = len(tasks) // 2
            self._import(project, tasks[:half], bodies[:half])
            self._import(project, tasks[half:], bodies[half:])
            return
        self._parts.added(project, len(numbers))
        self._made += [
            made(task, project.id, number) for task, number in zip(tasks, numbers, strict=True)
        ]
        self.created += len(tasks)

    def _send_old(self, project: int) -> None:
        tasks = self._old.pop(project, {})
        self._old_bytes[project] = 0
        rows = untouched(self._client, project, {n: task.key for n, task in tasks.items()})
        chosen = [tasks[number] for number in rows]
        addresses = self._parts.pictures(project).addresses(task.image for task in chosen)
        self._write([about_to_replace(tasks[n], project, n) for n in rows])
        done = self.replaced + len(self.failures)
        self._replace(project, tasks, rows, addresses)
        self.unchanged += len(tasks) - (self.replaced + len(self.failures) - done)
        self._progress(len(tasks))

    def _replace(
        self,
        project: int,
        tasks: Mapping[int, TaskPayload],
        rows: Rows,
        addresses: Mapping[str, str],
    ) -> None:
        """Replace predictions; halve a batch that is refused, as :meth:`_import` does."""
        try:
            numbers = replace_predictions(
                self._client, project, tasks, rows, addresses=addresses, ours=self._ours
            )
        except RefusedError as error:
            if len(rows) == 1:
                (number,) = rows
                self.failures.append(f"the task for {tasks[number].image} was refused: {error}")
                return
            order = list(rows)
            for half in (order[: len(order) // 2], order[len(order) // 2 :]):
                self._replace(project, tasks, {n: rows[n] for n in half}, addresses)
            return
        self._made += [made(tasks[number], project, number) for number in numbers]
        self.replaced += len(numbers)

    def _write(self, notes: Sequence[Note]) -> None:
        """Write down what the last batch became and what the next one will be, in one commit."""
        self._ledger.write([*self._made, *notes])
        self._made = []


def _size(task: TaskPayload) -> int:
    return sum(part.size for part in task.parts)
