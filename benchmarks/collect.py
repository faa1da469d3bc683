"""Annotations a second out of a real Label Studio: our route against the others that there are.

``benchmarks/collect.py [--tasks 200] [--rows 500000] [--json]`` first looks predictions up in a
table of ``--rows`` rows, five an image, and says by how much the process grew (the masks of all
rows are the same). Then it starts a server of its own, publishes pictures of 1024 x 768 pixels with
a mask and eight points each, submits all of them, and reads them back by every route of its API.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
from PIL import Image
from publish import HEIGHT, WIDTH, predictions
from pydantic import SecretStr

from labelstudio.client import LabelStudioClient
from labelstudio.collecting.changes import ANNOTATED, changed_tasks, submitted
from labelstudio.collecting.collect import Collector, Tally
from labelstudio.publishing.publish import publish
from labelstudio.server import LabelStudioServer
from labelstudio.settings import LabelStudioSettings
from pipeline.storage.delta import FencedTable
from pipeline.storage.schemas import COMMITTED_AT, PREDICTIONS_SCHEMA, predictions_to_arrow
from pipeline.storage.settings import S3Settings
from pipeline.storage.shards import write_shard
from pipeline.storage.store import Store, open_store
from pipeline.storage.tables import PredictionTables

QUERIES = 5
ROWS_A_COMMIT = 50_000
IMAGES_A_LOOKUP = 100


@dataclass(frozen=True)
class Desk:
    """A published project on a server."""

    client: LabelStudioClient
    settings: LabelStudioSettings
    store: Store
    project: int
    http: httpx.Client

    def get(self, path: str, params: Any = None) -> Any:  # noqa: ANN401 - JSON
        """Return the answer to a request."""
        answer = self.http.get(path, params=params)
        answer.raise_for_status()
        return answer.json()


def publish_and_submit(server: LabelStudioServer, folder: Path, tasks: int) -> Desk:
    """Publish tasks and submit each as it is shown."""
    (folder / "photos").mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "photos" / "black.png")
    images = list(predictions((folder / "photos" / "black.png").as_uri(), tasks))
    store, token = open_store(str(folder / "store"), S3Settings()), SecretStr(server.token)
    PredictionTables(store).commit([write_shard(store, [row for rows in images for row in rows])])
    settings = LabelStudioSettings(url=server.url, project="collected")
    summary = publish(
        images,
        run="benchmark",
        settings=settings,
        token=token,
        store=store,
        s3=S3Settings(),
        labels=("disc",),
        progress=lambda _: None,
    )
    http = httpx.Client(
        base_url=server.url,
        headers={"Authorization": f"Token {server.token}"},
        timeout=120,
        limits=httpx.Limits(max_keepalive_connections=0),
    )
    desk = Desk(LabelStudioClient(server.url, token), settings, store, summary.projects[0], http)
    for task in desk.client.tasks(desk.project, fields="all"):
        body = {"result": task["predictions"][0]["result"], "lead_time": 5.0}
        http.post(f"/api/tasks/{task['id']}/annotations/", json=body).raise_for_status()
    return desk


def ours(desk: Desk) -> int:
    """List the tasks, and read each annotation by its number."""
    tasks = changed_tasks(desk.client, desk.project, [ANNOTATED])
    return sum(len(submitted(desk.client, task)) for task in tasks)


def in_full(desk: Desk) -> int:
    """List the tasks with everything in them, predictions too."""
    tasks = desk.client.tasks(desk.project, fields="all")
    return sum(len(task["annotations"]) for task in tasks)


def by_task(desk: Desk) -> int:
    """List the tasks, and read the annotations of each; skipped ones are left out by the server."""
    tasks = changed_tasks(desk.client, desk.project, [ANNOTATED])
    return sum(len(desk.get(f"/api/tasks/{task.number}/annotations/")) for task in tasks)


def exported(desk: Desk) -> int:
    """List the tasks, and export them a hundred at a time; the server keeps a file of each call."""
    numbers = [task.number for task in changed_tasks(desk.client, desk.project, [ANNOTATED])]
    found = 0
    for start in range(0, len(numbers), 100):
        chosen = [("ids[]", number) for number in numbers[start : start + 100]]
        path = f"/api/projects/{desk.project}/export"
        tasks = desk.get(path, [("exportType", "JSON"), ("download_all_tasks", "true"), *chosen])
        found += sum(len(task["annotations"]) for task in tasks)
    return found


def collected(desk: Desk) -> int:
    """Collect into the table: our route, masks compared, rows committed."""
    tally = Tally()
    Collector(desk.client, desk.settings, desk.store, lambda _: None).poll(tally)
    return tally.new


def measure_routes(tasks: int) -> dict[str, float]:
    """Return annotations a second by route, and the bytes that exporting left on the server."""
    routes: tuple[Callable[[Desk], int], ...] = (ours, in_full, by_task, exported, collected)
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with LabelStudioServer(folder / "data", document_root=folder) as server:
            desk = publish_and_submit(server, folder, tasks)
            desk.client.check()
            for route in routes:
                began = time.perf_counter()
                count = route(desk)
                assert count == tasks
                found[route.__name__] = count / (time.perf_counter() - began)
        left = sum(path.stat().st_size for path in (folder / "data" / "export").glob("*"))
    return {**found, "bytes_left_by_export": left / tasks}


def measure_lookup(rows: int) -> dict[str, float]:
    """Return megabytes and seconds that finding all predictions of some images takes."""
    with tempfile.TemporaryDirectory() as name:
        store = open_store(name, S3Settings())
        keys = _fill(store, rows)
        before = _peak()
        began = time.perf_counter()
        versions = PredictionTables(store).versions()
        indexed = time.perf_counter() - began
        began = time.perf_counter()
        found = versions.of_images(keys[:: max(1, len(keys) // IMAGES_A_LOOKUP)])
        assert all(len(image) == QUERIES for image in found.values())
        seconds = (time.perf_counter() - began) / len(found)
    return {
        "rows": rows,
        "index_seconds": indexed,
        "lookup_seconds_an_image": seconds,
        "growth_mb": _peak() - before,
    }


def _fill(store: Store, rows: int) -> list[str]:
    """Write predictions that differ in key and image only; return their keys."""
    (row,) = next(predictions("file:///black.png", 1))
    pattern = predictions_to_arrow([replace(row, seg_vectors=())])
    table = FencedTable(store, "predictions", PREDICTIONS_SCHEMA.append(COMMITTED_AT))
    keys = [f"{number:032x}" for number in range(rows)]
    for start in range(0, rows, ROWS_A_COMMIT):
        count = min(ROWS_A_COMMIT, rows - start)
        part = pattern.take(pa.array([0] * count))
        images = [f"s3://bucket/folder/{(start + i) // QUERIES}.jpg" for i in range(count)]
        for column, values in (("key", keys[start : start + count]), ("image_id", images)):
            part = part.set_column(part.schema.get_field_index(column), column, pa.array(values))
        now = pa.array([0] * count, type=pa.int64()).cast(COMMITTED_AT.type)
        table.append(part.append_column(COMMITTED_AT, now))
    return keys


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    lookup, routes = measure_lookup(asked.rows), measure_routes(asked.tasks)
    if asked.json:
        print(json.dumps({"collect": {**routes, "lookup": lookup}}))
        return
    for name, value in {**routes, **lookup}.items():
        print(f"{name}: {value:.3f}")


if __name__ == "__main__":
    main()
