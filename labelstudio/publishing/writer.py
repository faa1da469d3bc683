"""The one writer of a run's projects: batches of new tasks, and newer predictions on old ones.

One request is under way at a time. While the server stores a batch of new tasks, the next one is
made up here; it is noted and sent when the answer to the last one is there.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from labelstudio.client import LabelStudioClient, Project
from labelstudio.errors import RefusedError
from labelstudio.publishing.check import check_task
from labelstudio.publishing.ledger import Ledger, Note, about_to_make, about_to_replace, made
from labelstudio.publishing.parts import Parts
from labelstudio.publishing.payload import TaskPayload
from labelstudio.publishing.replacing import Rows, replace_predictions, untouched
from pipeline.errors import LabelStudioError

BATCH_BYTES = 32_000_000
# Label Studio counts a whole project anew for every request that adds predictions to tasks.
_OLD_TO_NEW = 5


@dataclass(frozen=True, slots=True)
class _Batch:
    """New tasks that have been sent to a project, and the numbers that the server will answer."""

    project: Project
    tasks: Sequence[TaskPayload]
    bodies: Sequence[bytes]
    answer: Future[list[int]]


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
        self._sender = ThreadPoolExecutor(1)
        self._under_way: _Batch | None = None
        self.created = 0
        self.replaced = 0
        self.unchanged = 0
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        batch, self._under_way = self._under_way, None
        if batch is not None:  # only after an error, which is the one to be told
            with suppress(LabelStudioError):
                self._note(batch.project, batch.tasks, batch.answer.result())
        self._sender.shutdown()
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
        self._finish()

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
            self._finish()
            project, room = self._parts.with_room(self._ledger.add_project)
            batch, tasks = tasks[:room], tasks[room:]
            addresses = self._parts.pictures(project.id).addresses(task.image for task in batch)
            self._write([about_to_make(task, project.id) for task in batch])
            bodies = [task.body(addresses[task.image]) for task in batch]
            answer = self._sender.submit(self._client.import_tasks, project.id, bodies)
            self._under_way = _Batch(project, batch, bodies, answer)

    def _finish(self) -> None:
        """Wait for the batch that is under way, and take down what it became."""
        batch, self._under_way = self._under_way, None
        if batch is None:
            return
        try:
            self._note(batch.project, batch.tasks, batch.answer.result())
        except RefusedError as error:
            self._import_halves(batch.project, batch.tasks, batch.bodies, error)
        self._progress(len(batch.tasks))

    def _import_halves(
        self,
        project: Project,
        tasks: Sequence[TaskPayload],
        bodies: Sequence[bytes],
        error: RefusedError,
    ) -> None:
        """Import the halves of a batch that was refused, until the refused tasks stand alone."""
        if len(tasks) == 1:
            self.failures.append(f"the task for {tasks[0].image} was refused: {error}")
            return
        middle = len(tasks) // 2
        for half in (slice(None, middle), slice(middle, None)):
            try:
                numbers = self._client.import_tasks(project.id, bodies[half])
                self._note(project, tasks[half], numbers)
            except RefusedError as refused:
                self._import_halves(project, tasks[half], bodies[half], refused)

    def _note(self, project: Project, tasks: Sequence[TaskPayload], numbers: Sequence[int]) -> None:
        self._parts.added(project, len(numbers))
        self._made += [
            made(task, project.id, number) for task, number in zip(tasks, numbers, strict=True)
        ]
        self.created += len(tasks)

    def _send_old(self, project: int) -> None:
        self._finish()
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
        """Replace predictions; halve a batch that is refused, as with new tasks."""
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
