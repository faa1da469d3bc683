"""What the table of corrections knows of one project, annotation by annotation."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from labelstudio.client import Project
from labelstudio.collecting.annotation import Annotation, annotation_part, project_part
from pipeline.records import Correction
from pipeline.storage.corrections import CorrectionTable


@dataclass(slots=True)
class KnownAnnotation:
    """An annotation whose corrections are in the table under ``ids``.

    ``updated_at`` is that of their latest revision; ``alive`` until they are known as deleted.
    """

    task: int
    number: int
    updated_at: datetime
    alive: bool
    prefix: str
    labels: tuple[str, ...] = ()

    @property
    def ids(self) -> list[str]:
        """The ids of its corrections."""
        return [self.prefix + label for label in self.labels]


class Known:
    """An index of a project's corrections, kept up to date by whoever appends to the table."""

    def __init__(self, table: CorrectionTable, project: Project) -> None:
        self._annotations: dict[str, KnownAnnotation] = {}
        self._by_task: dict[int, set[str]] = {}
        self._by_number: dict[int, set[str]] = {}
        for row in table.revisions(project_part(project)):
            self._note(row.id, row.task, row.annotation, row.updated_at, alive=not row.deleted)

    @property
    def alive(self) -> int:
        """How many annotations are not known as deleted."""
        return sum(known.alive for known in self._annotations.values())

    def get(self, annotation: Annotation) -> KnownAnnotation | None:
        """Return what is known of an annotation."""
        return self._annotations.get(annotation_part(annotation))

    def has(self, number: int) -> bool:
        """Return whether a living annotation of that number is known."""
        return any(self._annotations[part].alive for part in self._by_number.get(number, ()))

    def holds(self, id_: str) -> bool:
        """Return whether a correction of that id is known."""
        _, part, label = id_.split("-")
        return part in self._annotations and label in self._annotations[part].labels

    def gone_from(
        self, task: int, present: Iterable[Annotation], unreadable: Iterable[int] = ()
    ) -> list[KnownAnnotation]:
        """Return the living annotations that a task, read whole just now, no longer holds.

        One of another task whose number was given to one of this task is gone, too.

        Args:
            task: the task's number.
            present: the annotations that it holds.
            unreadable: numbers of annotations that it holds and nobody could read.
        """
        here = list(present)
        suspects = set(self._by_task.get(task, ()))
        for annotation in here:
            suspects |= self._by_number.get(annotation.number, set())
        suspects -= {annotation_part(annotation) for annotation in here}
        spared = set(unreadable)
        found = (self._annotations[part] for part in sorted(suspects))
        return [known for known in found if known.alive and known.number not in spared]

    def missing_from(self, numbers: set[int]) -> Iterator[KnownAnnotation]:
        """Yield the living annotations whose numbers are not among a project's."""
        for known in self._annotations.values():
            if known.alive and known.number not in numbers:
                yield known

    def note(self, rows: Iterable[Correction]) -> None:
        """Remember revisions that were appended."""
        for row in rows:
            alive = row.verdict != "deleted"
            self._note(row.id, row.task, row.annotation, row.updated_at, alive=alive)

    def _note(self, id_: str, task: int, number: int, at: datetime, *, alive: bool) -> None:
        project, part, label = id_.split("-")
        known = self._annotations.get(part)
        if known is None:
            known = KnownAnnotation(task, number, at, alive, f"{project}-{part}-")
            self._annotations[part] = known
            self._by_task.setdefault(task, set()).add(part)
            self._by_number.setdefault(number, set()).add(part)
        elif at >= known.updated_at:
            known.updated_at, known.alive = at, alive
        if label not in known.labels:
            known.labels = (*known.labels, sys.intern(label))
