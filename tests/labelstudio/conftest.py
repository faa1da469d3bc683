"""Fixtures for everything that speaks to Label Studio."""

import json
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from label_studio_sdk import LabelStudio
from PIL import Image
from pydantic import SecretStr

from labelstudio.client import LabelStudioClient, Project
from labelstudio.collecting.collect import Collector, Tally
from labelstudio.projects import run_projects
from labelstudio.publishing.publish import PublishSummary, publish
from labelstudio.publishing.retract import RetractSummary, retract
from labelstudio.publishing.verify import verify
from labelstudio.server import LabelStudioServer
from labelstudio.settings import LabelStudioSettings
from pipeline import masks
from pipeline.records import Correction, Point, Prediction, Timings
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.settings import S3Settings
from pipeline.storage.shards import write_shard
from pipeline.storage.store import Store, open_store
from pipeline.storage.tables import PredictionTables


@pytest.fixture
def samples(shared: Path) -> Callable[[str], list[dict[str, Any]]]:
    """Return the brush regions found anywhere in a recorded message of a real server."""

    def brush_regions(value: Any) -> list[dict[str, Any]]:
        if isinstance(value, dict):
            if value.get("type") == "brushlabels" and "value" in value:
                return [value]
            return [region for part in value.values() for region in brush_regions(part)]
        if isinstance(value, list) and value and not isinstance(value[0], int):
            return [region for part in value for region in brush_regions(part)]
        return []

    def load(name: str) -> list[dict[str, Any]]:
        text = (shared / "labelstudio-samples" / name).read_text(encoding="utf-8")
        regions = brush_regions(json.loads(text))
        assert regions
        return regions

    return load


@pytest.fixture
def client(label_studio: LabelStudioServer) -> LabelStudioClient:
    """A client of the real server."""
    return LabelStudioClient(label_studio.url, SecretStr(label_studio.token))


@dataclass(frozen=True)
class Photos:
    """A folder that grey pictures are written to when they are asked for."""

    folder: Path

    def __call__(self, name: str = "a.png", width: int = 64, height: int = 48) -> str:
        """Write a picture and return its address."""
        self.folder.mkdir(exist_ok=True)
        Image.new("RGB", (width, height), (120, 120, 120)).save(self.folder / name)
        return (self.folder / name).as_uri()


@pytest.fixture
def image(tmp_path: Path) -> Photos:
    """A maker of pictures in a folder of the test's own."""
    return Photos(tmp_path / "photos")


@pytest.fixture
def prediction(image: Photos) -> Callable[..., Prediction]:
    """Make a prediction: a rectangle with points of every label, or an absence."""

    def make(
        label: str = "road", *, name: str = "a.png", present: bool = True, **changes: Any
    ) -> Prediction:
        width, height = changes.pop("width", 64), changes.pop("height", 48)
        uri = changes.pop("image", None) or image(name, width, height)
        mask = np.zeros((height, width), np.bool_)
        if present:
            mask[height // 4 : height // 2, width // 4 : width // 2] = True
        points = tuple(
            Point(width * (0.3 + 0.02 * i), height * 0.4, sign, 0.9 - 0.1 * i)
            for sign in (1, 0, -1)
            for i in range(6)
        )
        row = Prediction(
            key=f"key of {label} in {name}",
            id="",
            image_id=uri,
            image=uri,
            image_size=1,
            etag="1",
            group="",
            width=width,
            height=height,
            label=label,
            query=f"the {label}",
            present=present,
            answer="[SEG].",
            seg_probability=0.75 if present else 0.25,
            seg_vectors=((0.0,) * 256,) if present else (),
            mask=masks.encode(mask),
            points=points if present else (),
            predicted_iou=0.8 if present else 0.0,
            stability=0.9 if present else 0.0,
            model_version="tiny@1",
            timings=Timings(0, 0, 0, 0, 0),
        )
        return replace(row, **changes)

    return make


@pytest.fixture
def images_of(prediction: Callable[..., Prediction]) -> Callable[..., list[list[Prediction]]]:
    """Make the predictions of some images: a road and no sky in each, of one model version."""

    def make(count: int, version: str = "tiny@1", **changes: Any) -> list[list[Prediction]]:
        def row(label: str, name: str, *, present: bool) -> Prediction:
            made = prediction(label, name=name, present=present, model_version=version, **changes)
            return replace(made, key=f"{made.key} by {version}")

        names = [f"{number}.png" for number in range(count)]
        return [
            [row("road", name, present=True), row("sky", name, present=False)] for name in names
        ]

    return make


@dataclass(frozen=True)
class Street:
    """A project of one test's own on the real server, and a store to publish to it from."""

    client: LabelStudioClient
    settings: LabelStudioSettings
    token: SecretStr
    folder: Path

    def publish(self, images: Iterable[Sequence[Prediction]], **changes: Any) -> PublishSummary:
        """Publish images with two labels, unless told otherwise."""
        chosen = {
            "run": "street",
            "settings": self.settings,
            "token": self.token,
            "store": open_store(str(self.folder), S3Settings()),
            "s3": S3Settings(),
            "labels": ("road", "sky"),
            "progress": lambda _: None,
        }
        return publish(images, **{**chosen, **changes})

    def project(self) -> Project:
        """Return the one project with the test's title."""
        (project,) = self.projects()
        return project

    def projects(self) -> list[Project]:
        """Return the projects that the run has been split into."""
        return run_projects(self.client, self.settings)

    def tasks(self) -> list[dict[str, Any]]:
        """Read the projects back in full."""
        parts = self.projects()
        return [task for part in parts for task in self.client.tasks(part.id, fields="all")]

    def retract(self, version: str, *, known: bool = False) -> RetractSummary:
        """Take a version back."""
        return retract(
            version,
            settings=self.settings,
            token=self.token,
            store=open_store(str(self.folder), S3Settings()),
            progress=lambda _: None,
            known=known,
        )

    def shown(self) -> dict[str, list[str]]:
        """Return whose predictions each picture's task has."""
        return {
            task["data"]["name"]: [found["model_version"] for found in task["predictions"]]
            for task in self.tasks()
        }

    def differences(self, images: Iterable[Sequence[Prediction]]) -> tuple[str, ...]:
        """Return how the projects differ from what they should show."""
        rows = [row for image in images for row in image]
        return verify(rows, self.tasks(), points_per_sign=4, run="street").differences

    def touch(self, task: int, how: str) -> None:
        """Work on a task: ``annotation``, ``skip`` or ``draft``."""
        path = f"/api/tasks/{task}/{'drafts' if how == 'draft' else 'annotations/'}"
        body = {"result": [], "lead_time": 1.0, "was_cancelled": how == "skip"}
        headers = {"Authorization": f"Token {self.token.get_secret_value()}"}
        httpx.post(self.client.url + path, json=body, headers=headers).raise_for_status()

    def sdk(self) -> LabelStudio:
        """Return the SDK, for what only people do."""
        return LabelStudio(
            base_url=self.client.url,
            api_key=self.token.get_secret_value(),
            httpx_client=httpx.Client(limits=httpx.Limits(max_keepalive_connections=0)),
        )


@pytest.fixture
def street(
    label_studio: LabelStudioServer,
    client: LabelStudioClient,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Street:
    """A project for this test, made when it is first published to."""
    title = f"{request.node.name[:36]} {secrets.token_hex(4)}"
    settings = LabelStudioSettings(url=label_studio.url, project=title)
    return Street(client, settings, SecretStr(label_studio.token), tmp_path / "store")


@dataclass(frozen=True)
class Office:
    """A street whose predictions are in the table, and the people who work on it."""

    street: Street

    @property
    def store(self) -> Store:
        """The store, opened anew."""
        return open_store(str(self.street.folder), S3Settings())

    def at(self, server: LabelStudioServer, title: str) -> "Office":
        """Return the same office at another server."""
        token = SecretStr(server.token)
        settings = LabelStudioSettings(url=server.url, project=title)
        client = LabelStudioClient(server.url, token)
        return Office(replace(self.street, client=client, settings=settings, token=token))

    def publish(self, images: Iterable[Sequence[Prediction]], **changes: Any) -> None:
        """Commit predictions and publish what the table says then."""
        images = [list(image) for image in images]
        tables = PredictionTables(self.store)
        tables.commit([write_shard(self.store, image) for image in images])
        keys = [row.key for image in images for row in image]
        self.street.publish(tables.read_by_image(keys), **changes)

    def collector(self) -> Collector:
        """Return a collector that goes on polling."""
        return Collector(self.street.client, self.street.settings, self.store, lambda _: None)

    def collect(self) -> Tally:
        """Collect once, as a process of its own would."""
        tally = Tally()
        self.collector().poll(tally)
        return tally

    def rows(self) -> list[Correction]:
        """Return the latest revisions in the table."""
        return list(CorrectionTable(self.store).latest())

    def verdicts(self) -> list[str]:
        """Return the verdicts in the table, sorted."""
        return sorted(row.verdict for row in self.rows())

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Do what a browser does."""
        headers = {"Authorization": f"Token {self.street.token.get_secret_value()}"}
        address = self.street.client.url + path
        answer = httpx.request(method, address, headers=headers, json=body, timeout=60)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def tasks(self) -> list[dict[str, Any]]:
        """Return all tasks in full, by number."""
        return sorted(self.street.tasks(), key=lambda task: int(task["id"]))

    def submit(self, task: dict[str, Any], **changes: Any) -> int:
        """Submit a task as it is shown, unless told otherwise; return the annotation's number."""
        regions = [region for shown in task["predictions"] for region in shown["result"]]
        body = {"result": regions, "lead_time": 8.0, **changes}
        return int(self.call("POST", f"/api/tasks/{task['id']}/annotations/", body)["id"])

    def change(self, annotation: int, **changes: Any) -> None:
        """Submit an annotation again."""
        self.call("PATCH", f"/api/annotations/{annotation}/", changes)

    def delete(self, annotation: int) -> None:
        """Delete an annotation."""
        self.call("DELETE", f"/api/annotations/{annotation}/")


@pytest.fixture
def office(street: Street) -> Office:
    """People at work on this test's project."""
    return Office(street)
