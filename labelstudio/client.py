"""What this program asks of a Label Studio server, typed."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import SecretStr

from labelstudio.connection import Connection
from labelstudio.errors import TOKEN_VARIABLE, explain
from labelstudio.interface import ASKED, MASK, Control
from labelstudio.selection import Rule, Selection, query
from pipeline.errors import LabelStudioError

_IMPORT_SECONDS = 900.0
_NAMED_IN_BODY, _NAMED_IN_ADDRESS = 500, 50
_TASKS_A_PAGE = 100
_GONE = 404
# Anything else would be refused as a header, with an error that quotes it.
_FIT_TOKEN = re.compile(r"[!-~]+")
# 500 is what a storage without any credentials gets.
_NO_STORAGE = (400, 500)


@dataclass(frozen=True, slots=True)
class Project:
    """A project on the server.

    ``created_at`` tells it from a later one that was given the same number; ``controls`` are
    what its interface offers; ``tasks`` is how many there are.
    """

    id: int
    created_at: str
    title: str
    controls: Mapping[str, Control]
    labels: tuple[str, ...]
    tasks: int
    model_version: str


class LabelStudioClient(Connection):
    """One server, reached with one token.

    Every method raises :class:`pipeline.errors.LabelStudioError`, which names the address and
    never holds the token.
    """

    def __init__(self, url: str, token: SecretStr) -> None:
        super().__init__(url, token)
        self._bodies_arrive: bool | None = None

    def check(self) -> None:
        """Make sure that this is a Label Studio server and that it takes the token."""
        token = self._token.get_secret_value()
        if not token.strip():
            raise LabelStudioError(f"{TOKEN_VARIABLE} is empty: set it to a token of {self.url}")
        if not _FIT_TOKEN.fullmatch(token):
            raise LabelStudioError(
                f"{TOKEN_VARIABLE} holds a blank, a line break or another sign that no token has: "
                f"copy the token of {self.url} anew"
            )
        with self._calling("ask for its version"):
            answer = self._send("GET", "/api/version", signed=False)
            if answer.is_redirect:
                address = answer.headers.get("location", "another address")
                raise LabelStudioError(f"{self.url} redirects to {address}: use that address")
            if answer.is_error or not any("label-studio" in name for name in answer.json()):
                raise LabelStudioError(
                    f"{self.url} is not a Label Studio server (status {answer.status_code}): check "
                    "'labelstudio.url' in the run file"
                )
        with self._calling("log in"):
            self._send("GET", "/api/current-user/whoami").raise_for_status()

    def find_projects(self, title: str, is_meant: Callable[[str], bool]) -> list[Project]:
        """Return the projects whose title holds ``title`` and ``is_meant``, oldest first."""
        with self._calling("list projects"):
            listed: Any = self._sdk.projects.list(title=title, include="id,title", ordering="id")
            return [self.project(found.id) for found in listed if is_meant(found.title)]

    def project(self, project: int) -> Project:
        """Return a project by its number."""
        with self._calling(f"read project {project}"):
            return _project(self._get(f"/api/projects/{project}"))

    def create_project(self, title: str, interface: str) -> Project:
        """Create a project that shows predictions to annotators."""
        with self._calling(f"create project {title!r}"):
            made: Any = self._sdk.projects.create(
                title=title,
                label_config=interface,
                show_collab_predictions=True,
                request_options={"max_retries": 0},
            )
            return self.project(made.id)

    def update_interface(self, project: int, interface: str) -> None:
        """Replace a project's labeling interface."""
        with self._calling(f"update the interface of project {project}"):
            self._sdk.projects.update(project, label_config=interface)

    def show_model_version(self, project: int, version: str) -> None:
        """Choose whose predictions annotators start from."""
        with self._calling(f"choose the model version of project {project}"):
            self._sdk.projects.update(project, model_version=version)

    def import_tasks(self, project: int, bodies: Sequence[bytes]) -> list[int]:
        """Create tasks from their JSON and return their numbers in the same order.

        All of them are stored or, when one is refused, none.
        """
        path = f"/api/projects/{project}/import"
        with self._calling(f"import {len(bodies)} tasks"):
            answer = self._send(
                "POST",
                path,
                params={"return_task_ids": "true"},
                content=b"[" + b",".join(bodies) + b"]",
                timeout=_IMPORT_SECONDS,
            )
            answer.raise_for_status()
            made = [int(number) for number in answer.json()["task_ids"]]
        if len(made) != len(bodies):
            raise LabelStudioError(
                f"Label Studio at {self.url} made {len(made)} tasks of {len(bodies)}: run again"
            )
        return made

    def predictions(self, task: int) -> list[dict[str, Any]]:
        """Return the predictions of a task."""
        with self._calling(f"read the predictions of task {task}"):
            return cast("list[dict[str, Any]]", self._get("/api/predictions", {"task": task}))

    def delete_prediction(self, prediction: int) -> None:
        """Delete one prediction."""
        with self._calling(f"delete prediction {prediction}"):
            self._send("DELETE", f"/api/predictions/{prediction}").raise_for_status()

    def update_data(self, task: int, data: Mapping[str, Any]) -> None:
        """Replace the data of a task."""
        with self._calling(f"update task {task}"):
            self._send_json("PATCH", f"/api/tasks/{task}", {"data": data})

    def add_predictions(self, project: int, predictions: Sequence[bytes]) -> None:
        """Add predictions, each as JSON that names its task. All are stored or none."""
        with self._calling(f"import {len(predictions)} predictions"):
            self._send(
                "POST",
                f"/api/projects/{project}/import/predictions",
                content=b"[" + b",".join(predictions) + b"]",
                timeout=_IMPORT_SECONDS,
            ).raise_for_status()

    def clear_predictions(self, project: int, selection: Selection) -> None:
        """Delete all predictions of the selected tasks."""
        with self._calling(f"delete the predictions of {len(selection.keys)} tasks"):
            self._send(
                "POST",
                "/api/dm/actions",
                params={"id": "delete_tasks_predictions", "project": project},
                content=selection.query().encode(),
                timeout=_IMPORT_SECONDS,
            ).raise_for_status()

    def model_versions(self, project: int) -> dict[str, int]:
        """Return how many predictions a project holds of each model version."""
        with self._calling(f"list the model versions of project {project}"):
            return dict(self._get(f"/api/projects/{project}/model-versions"))

    def find_tasks(self, project: int, keys: Sequence[str]) -> dict[str, list[int]]:
        """Return the numbers of the tasks that carry those keys, oldest first."""
        found: dict[str, list[int]] = {}
        most = self.most_named(project)
        for start in range(0, len(keys), most):
            for task in self.select(project, Selection(keys[start : start + most])):
                found.setdefault(task["data"]["key"], []).append(int(task["id"]))
        return {key: sorted(numbers) for key, numbers in found.items()}

    def count(self, project: int, selection: Selection) -> int:
        """Return how many tasks are selected; the server reads none of them for it."""
        with self._calling(f"count tasks of project {project}"):
            return int(self._select(project, selection)["total"])

    def select(self, project: int, selection: Selection) -> list[dict[str, Any]]:
        """Return the selected tasks without predictions and annotations, by their numbers.

        The server reads the predictions nevertheless, so it is asked page by page.
        """
        rows: list[dict[str, Any]] = []
        with self._calling(f"look tasks of project {project} up"):
            while True:
                page = len(rows) // _TASKS_A_PAGE + 1
                answer = self._select(project, selection, page, _TASKS_A_PAGE)
                rows += answer["tasks"]
                if len(answer["tasks"]) < _TASKS_A_PAGE or len(rows) >= answer["total"]:
                    return rows

    def most_named(self, project: int) -> int:
        """Return how many tasks a selection may name.

        A query goes into the body of a GET, where it may be long. Some proxies drop such bodies,
        which is noticed by a selection of nothing that yields tasks; then it goes into the address.
        """
        if self._bodies_arrive is None:
            nothing = Selection([""], [0])
            with self._calling(f"look at the tasks of project {project}"):
                if self._select(project, nothing)["total"]:
                    self._bodies_arrive = False
                elif self._get("/api/tasks", {"project": project, "page_size": 1})["total"]:
                    self._bodies_arrive = True
        return _NAMED_IN_ADDRESS if self._bodies_arrive is False else _NAMED_IN_BODY

    def _select(self, project: int, selection: Selection, page: int = 1, size: int = 1) -> Any:  # noqa: ANN401
        asked = {"project": project, "page": page, "page_size": size, "resolve_uri": "false"}
        query = selection.query()
        if self._bodies_arrive is False:
            return self._get("/api/tasks", {**asked, "query": query})
        return self._get("/api/tasks", asked, query.encode())

    def tasks(self, project: int, query: str = "", fields: str = "") -> Iterator[dict[str, Any]]:
        """Yield a project's tasks as the server tells them.

        Args:
            project: the project's number.
            query: Label Studio's filter, as JSON; empty for all tasks.
            fields: "all" for predictions and annotations too.
        """
        wanted = {"query": query} if query else {}
        if fields:
            wanted["fields"] = fields
        page = 1
        while True:
            asked = {"project": project, "page": page, "page_size": _TASKS_A_PAGE, **wanted}
            with self._calling(f"list the tasks of project {project}"):
                answer = self._get("/api/tasks", asked)
                tasks, total = answer["tasks"], answer["total"]
            yield from tasks
            if page * _TASKS_A_PAGE >= total:
                return
            page += 1

    def tasks_after(
        self, project: int, number: int, rules: Sequence[Rule]
    ) -> tuple[list[dict[str, Any]], int]:
        """Return the first tasks that pass ``rules`` and have a higher number, lowest first.

        Each task has its ``annotations_ids``, as text. Paging by numbers instead of pages loses
        none when others are deleted in between.

        Returns:
            The tasks of one page, none after the last, and how many pass in all.
        """
        asked = {
            "project": project,
            "page": 1,
            "page_size": _TASKS_A_PAGE,
            "resolve_uri": "false",
            "query": query([*rules, Rule("id", "greater", "Number", number)]),
        }
        with self._calling(f"list the annotated tasks of project {project}"):
            answer = self._get("/api/tasks", asked)
            return answer["tasks"], int(answer["total"])

    def annotation(self, number: int) -> dict[str, Any] | None:
        """Return an annotation, submitted or skipped; None if there is none of that number."""
        with self._calling(f"read annotation {number}"):
            answer = self._send("GET", f"/api/annotations/{number}/")
            if answer.status_code == _GONE:
                return None
            answer.raise_for_status()
            return cast("dict[str, Any]", answer.json())

    def annotations(self, task: int) -> list[dict[str, Any]]:
        """Return all annotations of a task, skipped ones too; none if the task is gone."""
        with self._calling(f"read task {task}"):
            answer = self._send("GET", f"/api/tasks/{task}", params={"resolve_uri": "false"})
            if answer.status_code == _GONE:
                return []
            answer.raise_for_status()
            return cast("list[dict[str, Any]]", answer.json()["annotations"])

    def count_annotations(self, project: int) -> int:
        """Return how many annotations a project holds, skipped ones too, drafts not."""
        with self._calling(f"read project {project}"):
            row = self._get(f"/api/projects/{project}")
            return int(row["total_annotations_number"]) + int(row["skipped_annotations_number"])

    def webhooks(self, project: int) -> list[dict[str, Any]]:
        """Return the webhooks of a project, with the headers that they send."""
        with self._calling(f"list the webhooks of project {project}"):
            rows = self._get("/api/webhooks/", {"project": project})
            return cast("list[dict[str, Any]]", rows)

    def save_webhook(self, settings: Mapping[str, Any], number: int | None = None) -> int:
        """Make a webhook, or change the one with that number; return its number."""
        path, method = ("/api/webhooks/", "POST") if number is None else _webhook(number)
        with self._calling("set up a webhook"):
            answer = self._send(method, path, content=json.dumps(settings).encode())
            answer.raise_for_status()
            return int(answer.json()["id"])

    def delete_webhook(self, number: int) -> None:
        """Delete a webhook; nothing if it is gone."""
        with self._calling(f"delete webhook {number}"):
            answer = self._send("DELETE", f"/api/webhooks/{number}/")
            if answer.status_code != _GONE:
                answer.raise_for_status()

    def storages(self, kind: str, project: int) -> list[dict[str, Any]]:
        """Return a project's source storages of a kind, ``localfiles`` or ``s3``."""
        with self._calling(f"list the storages of project {project}"):
            rows = self._get(f"/api/storages/{kind}", {"project": project})
            return cast("list[dict[str, Any]]", rows)

    def connect_storage(self, kind: str, settings: Mapping[str, Any]) -> str:
        """Connect a source storage, which is not synced; return why not, empty if it worked."""
        return self._try_storage(f"/api/storages/{kind}", settings)

    def try_storage(self, kind: str, settings: Mapping[str, Any]) -> str:
        """Return why the server would not connect a source storage, empty if it would."""
        return self._try_storage(f"/api/storages/{kind}/validate", settings)

    def serves(self, path: str) -> bool:
        """Return whether the server gives a file at a path of its own."""
        with self._calling("look at an image"):
            return self._send("GET", path, headers={"Range": "bytes=0-0"}).is_success

    def backends(self, project: int) -> list[dict[str, Any]]:
        """Return the machine learning backends that a project has."""
        with self._calling(f"list the backends of project {project}"):
            return cast("list[dict[str, Any]]", self._get("/api/ml", {"project": project}))

    def connect_backend(self, settings: Mapping[str, Any], backend: int | None) -> None:
        """Add a backend, or change one; the server asks it for its health at once."""
        with self._calling("connect the backend"):
            if backend is None:
                self._send_json("POST", "/api/ml", settings)
            else:
                self._send_json("PATCH", f"/api/ml/{backend}", settings)

    def _try_storage(self, path: str, settings: Mapping[str, Any]) -> str:
        with self._calling("connect a storage"):
            answer = self._send("POST", path, content=json.dumps(settings).encode())
            if answer.status_code in _NO_STORAGE:
                return explain(answer.text) or "no reason given"
            answer.raise_for_status()
        return ""


def _webhook(number: int) -> tuple[str, str]:
    return f"/api/webhooks/{number}/", "PATCH"


def _project(row: Mapping[str, Any]) -> Project:
    parsed = row["parsed_label_config"] or {}
    controls = {
        name: Control(part["type"], ",".join(part["to_name"]), frozenset(part["labels"]))
        for name, part in parsed.items()
    }
    return Project(
        id=row["id"],
        created_at=row["created_at"],
        title=row["title"],
        controls=controls,
        labels=tuple(name for name in parsed.get(MASK, {}).get("labels", ()) if name != ASKED),
        tasks=row["task_number"],
        model_version=row["model_version"] or "",
    )
