"""How far a project has been collected: a small JSON object on the store, written last.

Everything it says follows from what is committed before it. Lost or old, it costs a look at tasks
that have been seen before, and nothing else.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime

from labelstudio.client import Project
from labelstudio.collecting.annotation import project_part
from labelstudio.collecting.changes import TaskState
from pipeline.errors import MissingError
from pipeline.storage.store import Store

_MOST_BYTES = 10_000_000


@dataclass(frozen=True, slots=True)
class Marker:
    """Where the next poll of a project begins.

    ``updated_at`` is the latest change of a task that was seen, by the server's clock, as ISO 8601;
    empty before the first poll. ``others`` is how many annotations of the project are no
    corrections of this store. ``retry`` are tasks with an annotation that could not be read.
    """

    updated_at: str = ""
    others: int = 0
    retry: tuple[int, ...] = ()

    @property
    def time(self) -> datetime | None:
        """``updated_at`` as a time, None before the first poll."""
        return datetime.fromisoformat(self.updated_at) if self.updated_at else None


def read_marker(store: Store, project: Project) -> Marker:
    """Return a project's marker; a fresh one when there is none or it is no marker."""
    try:
        content = json.loads(store.get(_path(project), _MOST_BYTES))
        marker = Marker(
            str(content["updated_at"]), int(content["others"]), tuple(map(int, content["retry"]))
        )
        time = marker.time
    except (MissingError, ValueError, KeyError, TypeError):
        return Marker()
    return marker if time is None or time.tzinfo is not None else Marker()


def write_marker(store: Store, project: Project, marker: Marker) -> None:
    """Write a project's marker, at once or not at all."""
    store.put(_path(project), json.dumps(asdict(marker)).encode())


def latest(before: datetime | None, tasks: Iterable[TaskState]) -> datetime | None:
    """Return the latest change among tasks and a time before, None without any."""
    times = [task.updated_at for task in tasks]
    return max([*times, before] if before else times, default=None)


def _path(project: Project) -> str:
    return f"collected/{project_part(project)}.json"
