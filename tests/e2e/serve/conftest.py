"""A labeled and published picture, and ``readloop serve`` connected to its project."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from pydantic import SecretStr

from labelstudio.client import LabelStudioClient
from labelstudio.interactive.points import query_points
from labelstudio.interactive.request import PointRegion
from labelstudio.publishing.payload import regions_of
from labelstudio.publishing.publish import publish
from labelstudio.server import LabelStudioServer
from labelstudio.settings import LabelStudioSettings
from pipeline.records import ImageRef, LabelTask, Prediction, Query, Timings, task_key
from pipeline.storage.settings import S3Settings
from pipeline.storage.shards import write_shard
from pipeline.storage.store import ObjectReader, open_store
from pipeline.storage.tables import PredictionTables
from workers.answers import prediction
from workers.read.engine import Answer, ReadEngine
from workers.read.images import decode
from workers.read.repointing import embed, refine
from workers.serve.gate import SECRET_VARIABLE
from workers.serve.model import prompt_points

READLOOP = Path(sys.executable).with_name("readloop")
PICTURE = "scene-201-00010.jpg"
QUERIES = {"square": "green square", "circle": "circle that is white"}
UP_SECONDS = 240
SETTINGS = LabelStudioSettings(url="http://127.0.0.1", project="any")
Json = dict[str, Any]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Served:
    """A running server, and what it serves."""

    address: str
    version: str
    rows: tuple[Prediction, ...]
    engine: ReadEngine
    pixels: NDArray[np.uint8]
    label_studio: str
    token: str
    project: int
    task: int
    logs: Path
    secret: str

    def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Send a request with the secret."""
        login = ("readloop", self.secret)
        return httpx.request(method, self.address + path, auth=login, timeout=120, **more)

    def refined(self, label: str, points: list[PointRegion]) -> Mask:
        """Make the mask of a query's points here, without the server."""
        (row,) = (row for row in self.rows if row.label == label)
        chosen = query_points(row, points, 4)
        prompt = prompt_points(row, chosen.kept, chosen.placed, row.seg_vectors)
        image = embed(self.engine.model, self.pixels)
        made = refine(self.engine.model, image, row.seg_vectors, prompt)
        return np.asarray(made.mask, np.bool_)

    def message(self, *context: Json, **task: Any) -> Json:
        """Return a ``/predict`` body about the task."""
        shown = [r for row in self.rows for r in regions_of(row, SETTINGS).regions]
        whole = {
            "id": self.task,
            "data": {
                "image": "http://169.254.169.254/latest/meta-data/",  # never fetched
                "key": "any",
            },
            "drafts": [],
            "annotations": [],
            "predictions": [{"id": 1, "updated_at": "1", "result": shown}],
        }
        return {"tasks": [whole | task], "params": {"context": {"result": list(context)}}}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def click(x: float, y: float, name: str = "new", label: str = "square +") -> Json:
    return {
        "id": name,
        "type": "keypointlabels",
        "from_name": "points",
        "to_name": "image",
        "is_positive": True,
        "origin": "manual",
        "value": {"x": x, "y": y, "width": 0.9, "keypointlabels": [label]},
    }


def predicted(engine: ReadEngine, image: Path) -> tuple[NDArray[np.uint8], list[Prediction]]:
    """Label a picture as a replica would."""
    reference = ObjectReader(S3Settings()).head(image.as_uri())
    described = ImageRef(reference.uri, reference.uri, reference.size, reference.etag, "")
    pixels = decode(image.read_bytes(), 10**8)
    answers = engine.predict(pixels, list(QUERIES.values()))
    rows = []
    for (label, text), answer in zip(QUERIES.items(), answers, strict=True):
        assert isinstance(answer, Answer)
        key = task_key(described, Query(label, text), engine.version, engine.settings_json)
        rows.append(
            prediction(
                described,
                LabelTask(key, label, text),
                answer,
                size=(pixels.shape[0], pixels.shape[1]),
                model_version=engine.version,
                timings=Timings(0, 0, 0, 0, 0),
            )
        )
    return pixels, rows


def run_file(folder: Path, model: Path, url: str, project: str) -> Path:
    """Write the run file of a server with narrow limits; return its path."""
    run = {
        "name": "served",
        "store": str(folder / "store"),
        "source": {"images": str(folder / "photos"), "queries": [{"label": "a", "text": "a"}]},
        "model": str(model),
        "labelstudio": {"url": url, "project": project},
        "serve": {"port": free_port(), "body_bytes": 400_000, "waiting": 4, "points": 100},
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(run), encoding="utf-8")
    return path


@contextmanager
def serving(path: Path, secret: str, *options: str, **environment: str) -> Iterator[Json]:
    """Serve a run file with a secret until left; yield what the server said when it was up.

    What it says later goes to ``stderr`` beside the run file.
    """
    command = [READLOOP, "serve", path, "--json", *options]
    own = {SECRET_VARIABLE: secret, **environment}
    with running(command, path.with_name("stderr"), **own) as up:
        yield up


@contextmanager
def running(command: Sequence[str | Path], errors: Path, **environment: str) -> Iterator[Json]:
    """Run a server until left; yield the JSON that it says when it is up."""
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            command,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, errors.read_text(encoding="utf-8")
        yield json.loads(line)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=UP_SECONDS)
    assert process.returncode == 0


@pytest.fixture(scope="package")
def served(
    label_studio: LabelStudioServer, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A labeled and published picture, and a server that is connected to its project."""
    folder = tmp_path_factory.mktemp("serve")
    picture = folder / "photos" / PICTURE
    picture.parent.mkdir()
    picture.write_bytes((repository / "configs/demo/images" / PICTURE).read_bytes())
    tiny = repository / "configs" / "models" / "tiny"
    engine = ReadEngine.load(tiny)
    pixels, rows = predicted(engine, picture)
    store = open_store(str(folder / "store"), S3Settings())
    PredictionTables(store).commit([write_shard(store, rows)])
    title = f"served {secrets.token_hex(4)}"
    token = SecretStr(label_studio.token)
    publish(
        [rows],
        run="served",
        settings=LabelStudioSettings(url=label_studio.url, project=title),
        token=token,
        store=store,
        s3=S3Settings(),
        labels=tuple(QUERIES),
        progress=lambda _: None,
    )
    path = run_file(folder, tiny, label_studio.url, title)
    secret = secrets.token_hex(16)
    own = {"LABEL_STUDIO_API_KEY": label_studio.token, "RAY_TMPDIR": str(folder / "ray")}
    with serving(path, secret, **own) as up:
        client = LabelStudioClient(label_studio.url, token)
        (task,) = client.tasks(up["projects"][0])
        yield Served(
            up["address"],
            up["model_version"],
            tuple(rows),
            engine,
            pixels,
            label_studio.url,
            label_studio.token,
            up["projects"][0],
            task["id"],
            folder,
            secret,
        )
