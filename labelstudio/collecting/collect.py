"""Corrections from Label Studio into the store's table: each revision once, whatever happens.

A poll looks at the tasks that changed since the last one (with overlap, by the server's clock),
commits what is new about them, and then counts: if the server holds another number of annotations
than the table knows of, it finds out which were deleted or missed. The marker that the next poll
begins at is written last, so a poll that dies is done again, and the table takes nothing twice.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

from labelstudio.client import LabelStudioClient, Project
from labelstudio.collecting.changes import (
    ANNOTATED,
    BARE,
    TaskState,
    among,
    changed_tasks,
    count_tasks,
    since,
    submitted,
)
from labelstudio.collecting.known import Known, KnownAnnotation
from labelstudio.collecting.marker import Marker, latest, read_marker, write_marker
from labelstudio.collecting.reader import Reader, deleted_revisions
from labelstudio.projects import run_projects
from labelstudio.selection import Rule
from labelstudio.settings import LabelStudioSettings
from pipeline.records import Correction, Verdict
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.store import Store

OVERLAP = timedelta(minutes=5)
"""How far a poll looks back: server processes differ in their clocks and commit out of order."""

_TASKS_A_BATCH = 100
_RETRIES_A_LOOKUP = 50
_MOST_BARE = 1000


@dataclass(slots=True)
class Tally:
    """What polls wrote, in corrections: one is what one annotation says about one query.

    ``new`` and ``updated`` were told apart by whether the table knew the correction; together they
    are as many as ``verdicts`` counts. ``failures`` say why annotations could not be read.
    """

    new: int = 0
    updated: int = 0
    deleted: int = 0
    verdicts: dict[Verdict, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    projects: tuple[int, ...] = ()

    def add(self, rows: Iterable[Correction], known: Known) -> None:
        """Count revisions that are about to be remembered."""
        for row in rows:
            if row.verdict == "deleted":
                self.deleted += 1
                continue
            if known.holds(row.id):
                self.updated += 1
            else:
                self.new += 1
            self.verdicts[row.verdict] = self.verdicts.get(row.verdict, 0) + 1


class Collector:
    """Polls the projects of a run. ``progress`` is told how many more tasks were looked at.

    Raises:
        LabelStudioError: the server is down, refuses, or has no such project.
        StorageError: the store failed.
        StoppedError: another process appends to the table.
    """

    def __init__(
        self,
        client: LabelStudioClient,
        settings: LabelStudioSettings,
        store: Store,
        progress: Callable[[int], None],
    ) -> None:
        self._client = client
        self._settings = settings
        self._store = store
        self._progress = progress
        self._table: CorrectionTable | None = None
        self._known: dict[tuple[int, str], Known] = {}
        self._seen: dict[int, dict[int, datetime]] = {}

    def projects(self) -> list[Project]:
        """Return the projects of the run that are there."""
        return run_projects(self._client, self._settings)

    def poll(self, tally: Tally) -> None:
        """Bring the table up to date with all projects of the run, and count what was written."""
        table = self._fresh_table()
        reader = Reader(self._client, self._store, self._settings.points_per_sign)
        projects = self.projects()
        for project in projects:
            _Poll(
                client=self._client,
                store=self._store,
                progress=self._progress,
                table=table,
                reader=reader,
                tally=tally,
                project=project,
                known=self._known_of(table, project),
                seen=self._seen.setdefault(project.id, {}),
            ).run()
        tally.projects = tuple(project.id for project in projects)

    def _fresh_table(self) -> CorrectionTable:
        """Return the table as it is now; others (an import) may have appended to it."""
        table = CorrectionTable(self._store)
        if self._table is None or self._table.version != table.version:
            self._table = table
            self._known.clear()
            self._seen.clear()
        return self._table

    def _known_of(self, table: CorrectionTable, project: Project) -> Known:
        identity = project.id, project.created_at
        if identity not in self._known:
            self._known[identity] = Known(table, project)
            self._seen.pop(project.id, None)
        return self._known[identity]


@dataclass(frozen=True, slots=True)
class _Poll:
    """One look at one project. ``seen`` says when tasks had changed as they were last read."""

    client: LabelStudioClient
    store: Store
    progress: Callable[[int], None]
    table: CorrectionTable
    reader: Reader
    tally: Tally
    project: Project
    known: Known
    seen: dict[int, datetime]

    def run(self) -> None:
        """Commit what changed, find what is gone, and write down how far this went."""
        before = read_marker(self.store, self.project)
        begin = before.time - OVERLAP if before.time else None
        newest, failed = before.time, set[int]()
        for tasks in _batches(self._changed(begin, before.retry)):
            unread = self._take(tasks)
            failed |= unread
            newest = latest(newest, tasks)
            read = (task for task in tasks if task.number not in unread)
            self.seen.update((task.number, task.updated_at) for task in read)
        others = self._reconcile(before.others, begin, newest, failed)
        after = Marker(newest.isoformat() if newest else "", others, tuple(sorted(failed)))
        if after != before:
            write_marker(self.store, self.project, after)
        for number, at in list(self.seen.items()):
            if newest and at < newest - OVERLAP:
                del self.seen[number]

    def _changed(self, begin: datetime | None, retry: Sequence[int]) -> Iterator[TaskState]:
        """Yield the tasks to read: those to try again, then those that changed."""
        for start in range(0, len(retry), _RETRIES_A_LOOKUP):
            some = retry[start : start + _RETRIES_A_LOOKUP]
            yield from self._tasks(ANNOTATED, *among(some))
        again = frozenset(retry)
        for task in self._tasks(ANNOTATED, *since(begin)):
            if task.number not in again and self.seen.get(task.number) != task.updated_at:
                yield task

    def _take(self, tasks: Sequence[TaskState]) -> set[int]:
        """Commit what is new about some tasks; return those that could not be read."""
        news = self.reader.read(self.project, self.known, tasks)
        self._append([*news.rows, *self._deleted(news.gone)])
        self.tally.failures += news.failures
        self.progress(len(tasks))
        return news.failed

    def _reconcile(
        self, others: int, begin: datetime | None, newest: datetime | None, failed: set[int]
    ) -> int:
        """Find annotations that are gone without a trace among changed tasks, or were missed.

        Args:
            others: annotations of the project that were no corrections of this store.
            begin: since when tasks have been looked at; None: all were.
            newest: the latest change that was seen.
            failed: tasks that could not be read; more are added.

        Returns:
            ``others`` as they are now.
        """
        if begin is not None:
            self._look_at_bare_tasks(begin)
        if self.client.count_annotations(self.project.id) == self.known.alive + others:
            return others
        numbers: set[int] = set()
        for tasks in _batches(self._tasks(ANNOTATED)):
            held = {task.number: self._numbers(task) for task in tasks}
            numbers.update(number for found in held.values() for number in found)
            missed = [
                task
                for task in tasks
                if task.number not in failed
                and not all(self.known.has(number) for number in held[task.number])
            ]
            failed |= self._take(missed)
        gone = list(self.known.missing_from(numbers))
        for start in range(0, len(gone), _TASKS_A_BATCH):
            some = gone[start : start + _TASKS_A_BATCH]
            self._append(self._deleted([(known, newest or known.updated_at) for known in some]))
        return len(numbers) - self.known.alive

    def _look_at_bare_tasks(self, begin: datetime) -> None:
        """Notice deletions that left a task without annotations, unless very many are so."""
        rules = [BARE, *since(begin)]
        if count_tasks(self.client, self.project.id, rules) > _MOST_BARE:
            return
        for tasks in _batches(self._tasks(*rules)):
            gone = [
                (known, task.updated_at)
                for task in tasks
                for known in self.known.gone_from(task.number, ())
            ]
            self._append(self._deleted(gone))

    def _numbers(self, task: TaskState) -> list[int]:
        if task.annotations is None:
            return [int(row["id"]) for row in submitted(self.client, task)]
        return list(task.annotations)

    def _deleted(self, gone: Sequence[tuple[KnownAnnotation, datetime]]) -> list[Correction]:
        times = {id_: at for known, at in gone for id_ in known.ids}
        return deleted_revisions(list(self.table.find(times)), times) if times else []

    def _append(self, rows: Sequence[Correction]) -> None:
        if rows:
            self.table.append(rows)
            self.tally.add(rows, self.known)
            self.known.note(rows)

    def _tasks(self, *rules: Rule) -> Iterator[TaskState]:
        return changed_tasks(self.client, self.project.id, rules)


def _batches(tasks: Iterator[TaskState]) -> Iterator[list[TaskState]]:
    while batch := list(islice(tasks, _TASKS_A_BATCH)):
        yield batch
