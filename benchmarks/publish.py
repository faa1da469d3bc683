"""Tasks a second into a real Label Studio: our publishing against one SDK call a task.

``benchmarks/publish.py [--tasks 1000] [--sdk-tasks 40] [--json]`` starts a server of its own,
makes pictures of 1024 x 768 pixels with a mask and eight points each, and sends them in both ways,
each to a project of its own. The SDK's way is one import of one task with its prediction; creating
task and prediction with a call each is told too. Ours is then asked to publish the same again,
which only compares ledger and server, and to publish another model version in place of the first.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import httpx
import numpy as np
from label_studio_sdk import LabelStudio
from PIL import Image
from pydantic import SecretStr

from labelstudio.client import LabelStudioClient
from labelstudio.interface import build
from labelstudio.publishing.payload import tasks_of
from labelstudio.publishing.publish import publish
from labelstudio.server import LabelStudioServer
from labelstudio.settings import LabelStudioSettings
from pipeline import masks
from pipeline.records import Point, Prediction, Timings
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import open_store

WIDTH, HEIGHT = 1024, 768


def predictions(image: str, count: int, version: str = "first") -> Iterator[list[Prediction]]:
    """Yield one present prediction an image, all on one picture, a disc somewhere else in each."""
    rng = np.random.default_rng(0)
    for number in range(count):
        center = int(rng.integers(250, WIDTH - 250)), int(rng.integers(250, HEIGHT - 250))
        drawn = np.zeros((HEIGHT, WIDTH), np.uint8)
        cv2.circle(drawn, center, 200, 1, -1)
        points = tuple(
            Point(center[0] + reach * dx, center[1] + reach * dy, sign, 0.5)
            for sign, reach in ((1, 100), (0, 240))
            for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1))
        )
        yield [
            Prediction(
                key=f"disc {number} by {version}",
                id="",
                image_id=f"image {number}",
                image=image,
                image_size=1,
                etag="1",
                group="",
                width=WIDTH,
                height=HEIGHT,
                label="disc",
                query="the disc",
                present=True,
                answer="[SEG].",
                seg_probability=0.9,
                seg_vectors=((0.0,) * 256,),
                mask=masks.encode(drawn > 0),
                points=points,
                predicted_iou=0.9,
                stability=0.9,
                model_version=version,
                timings=Timings(0, 0, 0, 0, 0),
            )
        ]


class Ours:
    """Publishing what a table holds into one project, with payloads, checks and bookkeeping."""

    def __init__(self, server: LabelStudioServer, folder: Path, image: str, count: int) -> None:
        self._server = server
        self._store = str(folder / "store")
        self._image = image
        self._count = count

    def rate(self, version: str, expected: str) -> float:
        """Publish all tasks; return tasks a second. All must count as ``expected``."""
        images = list(predictions(self._image, self._count, version))
        began = time.perf_counter()
        summary = publish(
            images,
            run="benchmark",
            settings=LabelStudioSettings(url=self._server.url, project="ours"),
            token=SecretStr(self._server.token),
            store=open_store(self._store, S3Settings()),
            s3=S3Settings(),
            labels=("disc",),
            progress=lambda _: None,
        )
        seconds = time.perf_counter() - began
        assert getattr(summary, expected) == self._count, summary
        return self._count / seconds


def sdk_rates(server: LabelStudioServer, image: str, count: int) -> dict[str, float]:
    """Return the tasks a second of the SDK's two ways, payloads made before."""
    settings = LabelStudioSettings(url=server.url, project="sdk")
    client = LabelStudioClient(server.url, SecretStr(server.token))
    project = client.create_project("sdk", build(["disc"])).id
    tasks = [tasks_of(rows, "sdk", settings)[0] for rows in predictions(image, count)]
    with httpx.Client(timeout=60) as connection:
        sdk = LabelStudio(base_url=server.url, api_key=server.token, httpx_client=connection)
        began = time.perf_counter()
        for task in tasks:
            body = {"data": task.data(image), "predictions": task.predictions()}
            sdk.projects.import_tasks(id=project, request=[body])
        one = time.perf_counter()
        for task in tasks:
            made = sdk.tasks.create(project=project, data=task.data(image))
            sdk.predictions.create(task=made.id, **task.predictions()[0])
        two = time.perf_counter()
    return {"one_call": count / (one - began), "two_calls": count / (two - one)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--sdk-tasks", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "photos").mkdir()
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "photos" / "black.png")
        image = (folder / "photos" / "black.png").as_uri()
        with LabelStudioServer(folder / "data", document_root=folder) as server:
            half = asked.sdk_tasks // 2
            before = sdk_rates(server, image, half)
            ours = Ours(server, folder, image, asked.tasks)
            created = ours.rate("first", "created")
            checked = ours.rate("first", "existing")
            replaced = ours.rate("second", "replaced")
            after = sdk_rates(server, image, half)
    sdk = {way: 2 / (1 / before[way] + 1 / after[way]) for way in before}
    result = {
        "tasks": asked.tasks,
        "tasks_per_second": created,
        "sdk": sdk["one_call"],
        "sdk_two_calls": sdk["two_calls"],
        "times_sdk": created / sdk["one_call"],
        "checked_per_second": checked,
        "replaced_per_second": replaced,
    }
    if asked.json:
        print(json.dumps({"publish": result}))
        return
    print(
        f"ours {created:.1f} tasks/s, SDK {sdk['one_call']:.1f} (two calls a task: "
        f"{sdk['two_calls']:.1f}): {result['times_sdk']:.1f} times\n"
        f"the same again: {checked:.0f} tasks/s; another version instead: {replaced:.1f} tasks/s"
    )


if __name__ == "__main__":
    main()
