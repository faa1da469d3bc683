"""Which tasks of a project people have worked on since a time, and what they submitted.

The data manager's list finds tasks by their ``updated_at``, which the server writes last whenever
an annotation is made, changed, skipped or deleted, and names the annotations of each task.
Annotations are then read one by one: their own route is the only one that leaves the predictions
out, tells skipped ones too and writes no file on the server (see ``docs/decisions.md``).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from labelstudio.client import LabelStudioClient
from labelstudio.selection import Rule

ANNOTATED = Rule("annotations_ids", "empty", "String", False)
BARE = Rule("annotations_ids", "empty", "String", True)

_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
# The server cuts the list of a task's annotations here.
_LONGEST_LIST = 500


@dataclass(frozen=True, slots=True)
class TaskState:
    """A task as the list tells it; ``annotations`` are numbers, None if there are too many."""

    number: int
    updated_at: datetime
    data: Mapping[str, Any]
    annotations: tuple[int, ...] | None


def since(time: datetime | None) -> list[Rule]:
    """Return the rule for tasks that changed after a time, none for the beginning."""
    if time is None:
        return []
    return [Rule("updated_at", "greater", "Datetime", time.strftime(_TIME))]


def among(tasks: Sequence[int]) -> list[Rule]:
    """Return the rule for tasks with those numbers."""
    return [Rule("id", "in_list", "List", list(tasks))]


def changed_tasks(
    client: LabelStudioClient, project: int, rules: Sequence[Rule]
) -> Iterator[TaskState]:
    """Yield the tasks that pass the rules, lowest numbers first."""
    last = 0
    while True:
        rows, _ = client.tasks_after(project, last, rules)
        if not rows:
            return
        for row in rows:
            yield _state(row)
        last = int(rows[-1]["id"])


def count_tasks(client: LabelStudioClient, project: int, rules: Sequence[Rule]) -> int:
    """Return how many tasks pass the rules."""
    return client.tasks_after(project, 0, rules)[1]


def submitted(client: LabelStudioClient, task: TaskState) -> list[dict[str, Any]]:
    """Return a task's annotations as they are now; those deleted in between are left out."""
    if task.annotations is None:
        return client.annotations(task.number)
    found = [client.annotation(number) for number in task.annotations]
    return [row for row in found if row is not None]


def _state(row: Mapping[str, Any]) -> TaskState:
    text = str(row["annotations_ids"] or "")
    numbers = tuple(int(part) for part in text.split(",") if part.strip())
    return TaskState(
        number=int(row["id"]),
        updated_at=datetime.fromisoformat(row["updated_at"]),
        data=row["data"] if isinstance(row["data"], Mapping) else {},
        annotations=numbers if len(text) < _LONGEST_LIST else None,
    )
