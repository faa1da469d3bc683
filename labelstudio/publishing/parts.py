"""A run's projects while they are written to: which has room, and the next one if none has."""

from collections.abc import Callable, Sequence

from labelstudio.client import LabelStudioClient, Project
from labelstudio.projects import open_project, project_parts
from labelstudio.publishing.pictures import Pictures
from labelstudio.settings import LabelStudioSettings
from pipeline.storage.settings import S3Settings


class Parts:
    """The run's projects, all able to show ``labels``; the first is made if it is not there.

    ``on_new`` is told of every project that is made later.

    Raises:
        LabelStudioError: a project has another interface, a title is there twice, or the server
            fails.
    """

    def __init__(
        self,
        client: LabelStudioClient,
        settings: LabelStudioSettings,
        labels: Sequence[str],
        s3: S3Settings,
    ) -> None:
        self._client = client
        self._settings = settings
        self._labels = labels
        self._s3 = s3
        found = project_parts(client, settings.project)
        self._parts = {part: self._open(part, found) for part in sorted({1, *found})}
        self._tasks = {project.id: project.tasks for project in self._parts.values()}
        self._pictures: dict[int, Pictures] = {}

    @property
    def projects(self) -> list[Project]:
        """All of them, in the order of their parts."""
        return [self._parts[part] for part in sorted(self._parts)]

    def with_room(self, on_new: Callable[[Project], None]) -> tuple[Project, int]:
        """Return the first project that takes more tasks, and how many.

        ``on_new`` gets a project that had to be made for it.
        """
        most = self._settings.tasks_per_project
        for project in self.projects:
            if self._tasks[project.id] < most:
                return project, most - self._tasks[project.id]
        part = next(
            number for number in range(1, len(self._parts) + 2) if number not in self._parts
        )
        self._parts[part] = project = self._open(part, {})
        self._tasks[project.id] = project.tasks
        on_new(project)
        return project, most - project.tasks

    def added(self, project: Project, tasks: int) -> None:
        """Note that a project has got more tasks."""
        self._tasks[project.id] += tasks

    def pictures(self, project: int) -> Pictures:
        """Return what makes the addresses of images for a project."""
        if project not in self._pictures:
            self._pictures[project] = Pictures(self._client, project, self._s3)
        return self._pictures[project]

    def _open(self, part: int, found: dict[int, Project]) -> Project:
        return open_project(self._client, self._settings.project, self._labels, found, part)
