"""Which tasks are in Label Studio: an append-only Delta table ``tasks`` on the store.

The latest row of a key counts. Rows name the project by number and creation time, so that those
of a server or a project that has been replaced are not taken for this one's. What a row says::

    task    digest       the task ...
    0       any          is about to be made
    number  "shown ..."  shows these predictions
    number  "blank ..."  is about them but withholds them
    number  ""           is about to show these instead of others
    number  "retracted"  shows nothing any more; these are the last ones

The digest is :func:`labelstudio.publishing.payload.image_digest`.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from labelstudio.client import Project
from labelstudio.publishing.payload import TaskPayload, task_key
from pipeline.storage.delta import FencedTable
from pipeline.storage.store import Store

TASKS_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("project", pa.int64()),
        ("project_created_at", pa.string()),
        ("task", pa.int64()),
        ("digest", pa.string()),
        ("siblings", pa.int32()),
        ("predictions", pa.list_(pa.string())),
        ("model_version", pa.string()),
        ("committed_at", pa.timestamp("us", tz="UTC")),
    ]
)
RETRACTED = "retracted"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known about a task.

    ``task`` is its number, 0 if it was perhaps made; ``shows`` says whether it has a prediction;
    ``model_version`` is empty when that is retracted; ``doubtful`` says that a request about it
    was sent, at ``seconds`` since the epoch, whose end nobody has noted.
    """

    project: int
    task: int
    digest: str
    siblings: int
    model_version: str
    shows: bool
    doubtful: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Note:
    """What to write down about a task; see the module for what the values mean."""

    key: str
    project: int
    task: int
    digest: str
    siblings: int
    predictions: tuple[str, ...]
    model_version: str


def about_to_make(task: TaskPayload, project: int) -> Note:
    """Return the note that a task is sent to a project."""
    return made(task, project, 0)


def about_to_replace(task: TaskPayload, project: int, number: int) -> Note:
    """Return the note that a task is sent other predictions."""
    return replace(made(task, project, number), digest="")


def made(task: TaskPayload, project: int, number: int) -> Note:
    """Return the note that a task is as its payload says."""
    keys = task.prediction_keys
    return Note(task.key, project, number, task.digest, task.siblings, keys, task.model_version)


def retracted(key: str, entry: Entry, predictions: Sequence[str]) -> Note:
    """Return the note that a task shows nothing any more; ``predictions`` are the last ones."""
    shown = tuple(predictions)
    return Note(key, entry.project, entry.task, RETRACTED, entry.siblings, shown, "")


class Ledger:
    """The tasks of a run's projects, as one writer knows them.

    Raises:
        StorageError: the store failed.
        StoppedError: on writing, when another run writes too.
    """

    def __init__(self, store: Store, projects: Iterable[Project]) -> None:
        self._created = {project.id: project.created_at for project in projects}
        self._table = FencedTable(store, "tasks", TASKS_SCHEMA)
        rows = self._read()
        self._sent = set(rows["model_version"].unique().to_pylist())
        self._entries = _latest(rows)
        self._most_siblings = pc.max(rows["siblings"]).as_py() or 0

    def add_project(self, project: Project) -> None:
        """Let further notes be about a project that has just been made."""
        self._created[project.id] = project.created_at

    def entry(self, key: str) -> Entry | None:
        """Return what is known about a task, None if it was never sent."""
        return self._entries.get(key)

    def entries(self) -> dict[str, Entry]:
        """Return what is known about every task, by its key."""
        return dict(self._entries)

    def of_image(self, run: str, image_id: str, first: int = 0) -> Iterator[tuple[str, Entry]]:
        """Yield an image's tasks from a number on, also those that come after a forgotten one."""
        for number in range(first, self._most_siblings):
            key = task_key(run, image_id, number)
            if key in self._entries:
                yield key, self._entries[key]

    @property
    def model_versions(self) -> frozenset[str]:
        """The versions of all predictions that were ever sent: a kill may leave an old one."""
        return frozenset(self._sent - {""})

    def adopt(self, key: str, number: int) -> None:
        """Take a task under the number that it was found under."""
        entry = self._entries[key]
        doubtful = entry.doubtful and entry.task != 0
        self._entries[key] = replace(entry, task=number, doubtful=doubtful)

    def forget(self, key: str) -> None:
        """Take a task as never made."""
        del self._entries[key]

    def mistrust(self, key: str) -> None:
        """Take a task as one that does not show what it should."""
        self._entries[key] = replace(self._entries[key], digest="")

    def write(self, notes: Sequence[Note]) -> None:
        """Append notes in one commit and remember them; a later note on a key counts."""
        now = time.time()
        rows = [self._row(note, now) for note in notes]
        self._table.append(pa.Table.from_pylist(rows, schema=TASKS_SCHEMA))
        for note in notes:
            self._entries[note.key] = _entry(note, now)
            self._sent.add(note.model_version)
            self._most_siblings = max(self._most_siblings, note.siblings)

    def _read(self) -> pa.Table:
        parts = [self._ours(rows) for _, rows in self._table.snapshot().scan(TASKS_SCHEMA.names)]
        return pa.concat_tables(parts) if parts else TASKS_SCHEMA.empty_table()

    def _ours(self, rows: pa.Table) -> pa.Table:
        """Return the rows about projects as they are now."""
        ours = pc.scalar(value=False)
        for number, created in self._created.items():
            same = pc.field("project") == number
            ours |= same & (pc.field("project_created_at") == created)
        return rows.filter(ours)

    def _row(self, note: Note, now: float) -> dict[str, object]:
        return asdict(note) | {
            "project_created_at": self._created[note.project],
            "committed_at": datetime.fromtimestamp(now, UTC),
        }


def _latest(rows: pa.Table) -> dict[str, Entry]:
    """Return the latest entry of each key; of rows of one commit, the made one."""
    order = [("committed_at", "ascending"), ("task", "ascending")]
    entries = {}
    for batch in rows.sort_by(order).to_batches():
        for row in batch.to_pylist():
            del row["project_created_at"]
            seconds = row.pop("committed_at").timestamp()
            entries[row["key"]] = _entry(Note(**row), seconds)
    return entries


def _entry(note: Note, seconds: float) -> Entry:
    return Entry(
        project=note.project,
        task=note.task,
        digest=note.digest,
        siblings=note.siblings,
        model_version=note.model_version,
        shows=note.digest.startswith("shown "),
        doubtful=not note.task or not note.digest,
        seconds=seconds,
    )
