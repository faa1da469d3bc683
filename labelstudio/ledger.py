"""Which tasks are in Label Studio: an append-only Delta table ``tasks`` on the store.

A row says that a task is about to be sent (``task`` is 0) or was made; the latest row of a key
counts. Rows name the project by number and creation time, so that those of a server or a project
that has been replaced are not taken for this one's.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from labelstudio.client import Project
from labelstudio.payload import TaskPayload
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

_NEEDED = ("key", "project", "project_created_at", "task", "digest", "siblings", "committed_at")


@dataclass(frozen=True, slots=True)
class Entry:
    """A task that was made, or (``task`` is 0) perhaps made, at ``seconds`` since the epoch."""

    task: int
    digest: str
    siblings: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Note:
    """What to write down about a task: its number, 0 before it is known."""

    payload: TaskPayload
    task: int


class Ledger:
    """The tasks of one project, as one writer knows them.

    Raises:
        StorageError: the store failed.
        StoppedError: on writing, when another run writes too.
    """

    def __init__(self, store: Store, project: Project) -> None:
        self._project = project
        self._table = FencedTable(store, "tasks", TASKS_SCHEMA)
        self._entries = self._read()

    def entry(self, key: str) -> Entry | None:
        """Return what is known about a task, None if it was never sent."""
        return self._entries.get(key)

    def doubtful(self) -> dict[str, Entry]:
        """Return the tasks that were about to be sent when an earlier run ended."""
        return {key: entry for key, entry in self._entries.items() if not entry.task}

    def made(self) -> int:
        """Return how many tasks are known to have been made."""
        return sum(1 for entry in self._entries.values() if entry.task)

    def known(self) -> list[str]:
        """Return the keys of all tasks that are known."""
        return list(self._entries)

    def settle(self, tasks: dict[str, int], gone: Sequence[str]) -> None:
        """Take doubtful tasks as made under their numbers, and forget those that are gone."""
        for key, number in tasks.items():
            old = self._entries[key]
            self._entries[key] = Entry(number, old.digest, old.siblings, old.seconds)
        for key in gone:
            del self._entries[key]

    def write(self, notes: Sequence[Note]) -> None:
        """Append notes in one commit and remember them; a later note on a key counts."""
        now = time.time()
        for note in notes:
            task = note.payload
            self._entries[task.key] = Entry(note.task, task.digest, task.siblings, now)
        rows = [_row(note, self._project, now) for note in notes]
        self._table.append(pa.Table.from_pylist(rows, schema=TASKS_SCHEMA))

    def _read(self) -> dict[str, Entry]:
        """Return the latest entry of each key; of rows of one commit, the made one."""
        ours = (pc.field("project") == self._project.id) & (
            pc.field("project_created_at") == self._project.created_at
        )
        parts = [rows.filter(ours) for _, rows in self._table.snapshot().scan(_NEEDED)]
        if not parts:
            return {}
        order = [("committed_at", "ascending"), ("task", "ascending")]
        return {
            row["key"]: Entry(
                row["task"], row["digest"], row["siblings"], row["committed_at"].timestamp()
            )
            for batch in pa.concat_tables(parts).sort_by(order).to_batches()
            for row in batch.to_pylist()
        }


def _row(note: Note, project: Project, now: float) -> dict[str, object]:
    return {
        "key": note.payload.key,
        "project": project.id,
        "project_created_at": project.created_at,
        "task": note.task,
        "digest": note.payload.digest,
        "siblings": note.payload.siblings,
        "predictions": list(note.payload.prediction_keys),
        "model_version": note.payload.model_version,
        "committed_at": datetime.fromtimestamp(now, UTC),
    }
