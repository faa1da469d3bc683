"""From tasks that changed to what is new about them, a batch at a time."""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from labelstudio.client import LabelStudioClient, Project
from labelstudio.collecting.annotation import Annotation, AnnotationError, parse_annotation
from labelstudio.collecting.changes import TaskState, submitted
from labelstudio.collecting.corrections import Work, corrections_of
from labelstudio.collecting.known import Known, KnownAnnotation
from labelstudio.publishing.published import PublishedTasks
from pipeline.records import Correction, Prediction
from pipeline.storage.store import Store
from pipeline.storage.tables import PredictionTables
from pipeline.storage.versions import PredictionVersions

_TICK = timedelta(microseconds=1)


@dataclass(slots=True)
class News:
    """What a batch of tasks brought.

    ``rows`` are revisions that the table lacks, ``gone`` the annotations that are no more, each
    with the time of the change. ``failures`` say why an annotation could not be read, ``failed``
    has its task's number.
    """

    rows: list[Correction] = field(default_factory=list)
    gone: list[tuple[KnownAnnotation, datetime]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    failed: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Context:
    """A task that was published from this store, and what it was published from."""

    state: TaskState
    shown_now: Sequence[str]
    candidates: Sequence[Prediction]


class Reader:
    """Reads tasks of one store's projects. Made anew for each poll: it sees the store as it was.

    Raises:
        LabelStudioError: the server is down or refuses.
        StorageError: the store failed.
    """

    def __init__(self, client: LabelStudioClient, store: Store, points_per_sign: int) -> None:
        self._client = client
        self._store = store
        self._points_per_sign = points_per_sign
        self._tables: tuple[PublishedTasks, PredictionVersions] | None = None

    def read(self, project: Project, known: Known, tasks: Sequence[TaskState]) -> News:
        """Return what is new about some tasks of a project.

        Tasks that were not published from this store bring nothing.
        """
        news = News()
        for context in self._contexts(tasks):
            self._read_task(project, known, context, news)
        return news

    def _contexts(self, tasks: Sequence[TaskState]) -> Iterator[_Context]:
        keys = [str(task.data.get("key", "")) for task in tasks]
        published, versions = self._look_up(keys)
        found = versions.of_images(key for shown in published.values() for key in shown)
        for task, key in zip(tasks, keys, strict=True):
            shown = published.get(key, [])
            candidates = next((found[one] for one in shown if one in found), None)
            if candidates:
                yield _Context(task, shown, candidates)

    def _look_up(self, keys: Sequence[str]) -> tuple[dict[str, list[str]], PredictionVersions]:
        """Return what tasks show; when one is unknown, look whether it was published meanwhile."""
        if self._tables is None:
            self._tables = self._open(PublishedTasks(self._store))
        published, versions = self._tables
        found = published.predictions(keys)
        if len(found) < len(set(keys)):
            fresh = PublishedTasks(self._store)
            if fresh.version != published.version:
                self._tables = published, versions = self._open(fresh)
                found = published.predictions(keys)
        return found, versions

    def _open(self, published: PublishedTasks) -> tuple[PublishedTasks, PredictionVersions]:
        """Add the predictions: opened later, so that they hold what was published."""
        return published, PredictionTables(self._store).versions()

    def _read_task(self, project: Project, known: Known, task: _Context, news: News) -> None:
        present: list[Annotation] = []
        unreadable: list[int] = []
        for row in submitted(self._client, task.state):
            try:
                annotation = parse_annotation(row)
                present.append(annotation)
                news.rows += self._revisions(project, known, task, annotation)
            except AnnotationError as error:
                unreadable.append(int(row.get("id") or 0))
                news.failures.append(str(error))
                news.failed.add(task.state.number)
        for gone in known.gone_from(task.state.number, present, unreadable):
            news.gone.append((gone, task.state.updated_at))

    def _revisions(
        self, project: Project, known: Known, task: _Context, annotation: Annotation
    ) -> list[Correction]:
        """Return an annotation's corrections, none if the table has them as they are.

        One that was taken for deleted and is back gets the later time that the table needs.
        """
        before = known.get(annotation)
        if before is not None and before.alive and annotation.updated_at <= before.updated_at:
            return []
        rows = corrections_of(
            Work(
                project=project,
                annotation=annotation,
                arm="blank" if task.state.data.get("arm") == "blank" else "shown",
                shown_now=task.shown_now,
                candidates=task.candidates,
                points_per_sign=self._points_per_sign,
                shown_ids=lambda: _shown_ids(self._client.predictions(task.state.number)),
            )
        )
        if before is None or annotation.updated_at > before.updated_at:
            return rows
        return [replace(row, updated_at=before.updated_at + _TICK) for row in rows]


def deleted_revisions(
    rows: Sequence[Correction], times: Mapping[str, datetime]
) -> list[Correction]:
    """Return the revisions that say that corrections are gone, each at its time or just later."""
    return [
        replace(row, verdict="deleted", updated_at=max(times[row.id], row.updated_at + _TICK))
        for row in rows
    ]


def _shown_ids(predictions: Sequence[Mapping[str, Any]]) -> AbstractSet[str]:
    return {str(region.get("id")) for row in predictions for region in row["result"]}
