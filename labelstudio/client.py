"""A thin, typed client: the SDK for projects, storages and tokens, plain HTTP for bulk.

The SDK takes a legacy token or a personal access token and renews access by itself. Bulk
requests open a connection each, which is faster than keep-alive on Label Studio's own server.
"""

import ipaddress
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from labelstudio.errors import TOKEN_VARIABLE, explain, mapped_errors
from labelstudio.interface import MASK, Control
from pipeline.errors import LabelStudioError

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio

_CALL_SECONDS = 60.0
_IMPORT_SECONDS = 900.0
_KEYS_A_LOOKUP = 50
_TASKS_A_PAGE = 100
_GONE = 404
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


@dataclass(frozen=True, slots=True)
class Rule:
    """One condition of the data manager's filters, on a column of tasks."""

    column: str
    operator: str
    type: str
    value: object

    def to_json(self) -> dict[str, object]:
        """Return it as the server takes it."""
        return {
            "filter": f"filter:tasks:{self.column}",
            "operator": self.operator,
            "type": self.type,
            "value": self.value,
        }


class LabelStudioClient:
    """One server, reached with one token.

    Every method raises :class:`pipeline.errors.LabelStudioError`, which names the address and
    never holds the token.
    """

    def __init__(self, url: str, token: SecretStr) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._trust_proxies = not is_loopback(self.url)

    def check(self) -> None:
        """Make sure that this is a Label Studio server and that it takes the token."""
        if not self._token.get_secret_value().strip():
            raise LabelStudioError(f"{TOKEN_VARIABLE} is empty: set it to a token of {self.url}")
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

    def add_prediction(self, task: int, prediction: Mapping[str, Any]) -> None:
        """Add one prediction to a task that exists."""
        with self._calling(f"add a prediction to task {task}"):
            self._send_json("POST", "/api/predictions", {**prediction, "task": task})

    def delete_prediction(self, prediction: int) -> None:
        """Delete one prediction."""
        with self._calling(f"delete prediction {prediction}"):
            self._send("DELETE", f"/api/predictions/{prediction}").raise_for_status()

    def update_data(self, task: int, data: Mapping[str, Any]) -> None:
        """Replace the data of a task."""
        with self._calling(f"update task {task}"):
            self._send_json("PATCH", f"/api/tasks/{task}", {"data": data})

    def find_tasks(self, project: int, keys: Sequence[str]) -> dict[str, list[int]]:
        """Return the numbers of the tasks that carry those keys, oldest first."""
        found: dict[str, list[int]] = {}
        for start in range(0, len(keys), _KEYS_A_LOOKUP):
            chosen = list(keys[start : start + _KEYS_A_LOOKUP])
            rule = {"filter": "filter:tasks:data.key", "operator": "in_list", "type": "String"}
            query = {"filters": {"conjunction": "and", "items": [{**rule, "value": chosen}]}}
            for task in self.tasks(project, json.dumps(query)):
                found.setdefault(task["data"]["key"], []).append(int(task["id"]))
        return {key: sorted(numbers) for key, numbers in found.items()}

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
        items = [*rules, Rule("id", "greater", "Number", number)]
        filters = {"conjunction": "and", "items": [rule.to_json() for rule in items]}
        asked = {
            "project": project,
            "page": 1,
            "page_size": _TASKS_A_PAGE,
            "resolve_uri": "false",
            "query": json.dumps({"filters": filters}),
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

    def _try_storage(self, path: str, settings: Mapping[str, Any]) -> str:
        with self._calling("connect a storage"):
            answer = self._send("POST", path, content=json.dumps(settings).encode())
            if answer.status_code in _NO_STORAGE:
                return explain(answer.text) or "no reason given"
            answer.raise_for_status()
        return ""

    @cached_property
    def _sdk(self) -> "LabelStudio":
        # The SDK's generated modules take seconds to import.
        from label_studio_sdk import LabelStudio  # noqa: PLC0415

        return LabelStudio(  # type: ignore[no-untyped-call]
            base_url=self.url,
            api_key=self._token.get_secret_value(),
            httpx_client=self._connection(_CALL_SECONDS),
        )

    def _calling(self, action: str) -> Any:  # noqa: ANN401 - a context manager
        return mapped_errors(self.url, action)

    def _connection(self, timeout: float) -> httpx.Client:
        fresh = httpx.Limits(max_keepalive_connections=0)
        return httpx.Client(timeout=timeout, limits=fresh, trust_env=self._trust_proxies)

    def _send(
        self,
        method: str,
        path: str,
        *,
        signed: bool = True,
        headers: Mapping[str, str] | None = None,
        timeout: float = _CALL_SECONDS,
        **more: Any,  # noqa: ANN401 - httpx's own
    ) -> httpx.Response:
        all_headers = {"Content-Type": "application/json", **(headers or {})}
        if signed:
            wrapper = self._sdk._client_wrapper
            all_headers["Authorization"] = wrapper.get_headers()["Authorization"]
        with self._connection(timeout) as connection:
            return connection.request(method, self.url + path, headers=all_headers, **more)

    def _send_json(self, method: str, path: str, body: Mapping[str, Any]) -> None:
        self._send(method, path, content=json.dumps(body).encode()).raise_for_status()

    def _get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401
        answer = self._send("GET", path, params=params)
        answer.raise_for_status()
        return answer.json()


def _webhook(number: int) -> tuple[str, str]:
    return f"/api/webhooks/{number}/", "PATCH"


def is_loopback(url: str) -> bool:
    """Return whether an address is this machine's own."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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
        labels=tuple(parsed.get(MASK, {}).get("labels", ())),
        tasks=row["task_number"],
        model_version=row["model_version"] or "",
    )
