"""How fast a mask follows a point: ``readloop serve`` under several annotators.

    python benchmarks/refine.py [--json] [--annotators 6] [--seconds 20]

Starts the server with the tiny checkpoint on the demo's pictures, labeled here, then sends what
Label Studio would send; no Label Studio is involved. Each annotator adds a point a second on a
picture of their own. Times are from sending a request to having its answer, over HTTP on this
machine. "Cache empty": every request finds no image embedding, so that the ratio of the two is
what the cache saves. Then the rate is raised until the 95th percentile passes a second.
"""

import argparse
import csv
import json
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from pydantic import SecretStr

from labelstudio.interactive.backend import Backend
from labelstudio.publishing.payload import regions_of
from labelstudio.settings import LabelStudioSettings
from pipeline.records import ImageRef, LabelTask, Prediction, Query, Timings, task_key
from pipeline.storage.settings import S3Settings
from pipeline.storage.shards import write_shard
from pipeline.storage.store import ObjectReader, open_store
from pipeline.storage.tables import PredictionTables
from workers.answers import prediction
from workers.models import plan_model
from workers.read.engine import Answer, ReadEngine
from workers.read.images import decode
from workers.serve.gate import USER
from workers.serve.job import ServeJob
from workers.serve.model import ServedModel
from workers.serve.settings import ServeSettings
from workers.serve.start import serving
from workers.settings import LimitSettings, PoolSettings

REPOSITORY = Path(__file__).resolve().parents[1]
TINY = REPOSITORY / "configs" / "models" / "tiny"
DEMO = REPOSITORY / "configs" / "demo"
SETTINGS = LabelStudioSettings(url="http://127.0.0.1", project="none")
SLOWEST = 1.0
RATES = (5, 10, 15, 20, 30, 40, 60, 80, 120)


@dataclass(frozen=True)
class Clicker:
    """Sends points to a server."""

    address: str
    auth: tuple[str, str]
    rows: list[Prediction]
    random: np.random.Generator

    def body(self, annotator: int) -> bytes:
        """Return a request with a new point, as Label Studio makes it."""
        row = self.rows[annotator % len(self.rows)]
        regions = list(regions_of(row, SETTINGS).regions)
        name = f"{row.label} {'+-'[int(self.random.integers(2))]}"
        same = [r for r in regions if r["value"].get("keypointlabels") == [name]]
        x, y = self.random.uniform(0, 100, 2)
        value = {"x": x, "y": y, "width": 0.9, "keypointlabels": [name]}
        new = {
            "id": secrets.token_hex(5),
            "type": "keypointlabels",
            "from_name": "points",
            "is_positive": True,
            "value": value,
        }
        task = {
            "id": annotator,
            "data": {"key": "k"},
            "predictions": [{"id": 1, "result": regions}],
        }
        context = {"result": [*same, new]}
        return json.dumps({"tasks": [task], "params": {"context": context}}).encode()

    def seconds(self, client: httpx.Client, annotator: int) -> float:
        """Send one request and return how long its answer took."""
        body = self.body(annotator)
        begun = time.perf_counter()
        answer = client.post(f"{self.address}/predict", content=body, auth=self.auth)
        taken = time.perf_counter() - begun
        answer.raise_for_status()
        return taken

    def forget(self, client: httpx.Client) -> None:
        """Empty the server's cache of embeddings."""
        client.delete(f"{self.address}/cache", auth=self.auth).raise_for_status()


def paced(
    clicker: Clicker, annotators: int, rate: float, seconds: float, *, cold: bool
) -> list[float]:
    """Send ``rate`` requests a second in all, whatever the answers take; return their times."""
    count = int(rate * seconds)
    begun = time.perf_counter() + 0.1
    with httpx.Client(timeout=60, trust_env=False) as client, ThreadPoolExecutor(64) as pool:

        def one(number: int) -> float:
            time.sleep(max(0.0, begun + number / rate - time.perf_counter()))
            if cold:
                clicker.forget(client)
            return clicker.seconds(client, number % annotators)

        return list(pool.map(one, range(count)))


def percentiles(times: list[float]) -> dict[str, float]:
    """Return median and 95th percentile in milliseconds."""
    middle, high = np.percentile(np.array(times) * 1e3, [50, 95])
    return {"p50_ms": round(float(middle), 1), "p95_ms": round(float(high), 1)}


def measure(clicker: Clicker, annotators: int, seconds: float) -> dict[str, Any]:
    """Run all three parts."""
    paced(clicker, annotators, annotators, 3, cold=False)
    warm = percentiles(paced(clicker, annotators, annotators, seconds, cold=False))
    cold = percentiles(paced(clicker, annotators, annotators, seconds, cold=True))
    most = 0.0
    for rate in RATES:
        found = percentiles(paced(clicker, 64, rate, 5, cold=False))
        if found["p95_ms"] > SLOWEST * 1e3:
            break
        most = float(rate)
    return {
        "annotators": annotators,
        "warm": warm,
        "cache_empty": cold,
        "ratio_p50": round(cold["p50_ms"] / warm["p50_ms"], 2),
        "requests_per_second_below_1_s": most,
    }


def label(folder: Path, images: int) -> list[Prediction]:
    """Label the demo's first pictures into a store, without Ray."""
    engine = ReadEngine.load(TINY)
    rows: list[Prediction] = []
    with (DEMO / "manifest.csv").open(encoding="utf-8") as file:
        queries = {row["image"]: row["query"] for row in csv.DictReader(file)}
    for name, text in list(queries.items())[:images]:
        info = ObjectReader(S3Settings()).head((DEMO / name).as_uri())
        image = ImageRef(info.uri, info.uri, info.size, info.etag, "")
        pixels = decode((DEMO / name).read_bytes(), 10**8)
        (answer,) = engine.predict(pixels, [text])
        assert isinstance(answer, Answer)
        key = task_key(image, Query("thing", text), engine.version, engine.settings_json)
        size = (pixels.shape[0], pixels.shape[1])
        task = LabelTask(key, "thing", text)
        times = Timings(0, 0, 0, 0, 0)
        rows.append(
            prediction(image, task, answer, size=size, model_version=engine.version, timings=times)
        )
    store = open_store(str(folder), S3Settings())
    PredictionTables(store).commit([write_shard(store, rows)])
    return [row for row in rows if row.present]


def backend(model: ServedModel) -> Backend:
    """Make what the server answers with."""
    return Backend(model, SETTINGS, most_points=1_000)


def with_server(
    folder: Path, work: Callable[[str, tuple[str, str]], dict[str, Any]]
) -> dict[str, Any]:
    """Serve the store in ``folder`` while ``work`` runs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pool = PoolSettings()
    settings = ServeSettings(port=port, waiting=1_000)
    model = plan_model(str(TINY), S3Settings(), pool.precision)
    job = ServeJob(str(folder), S3Settings(), LimitSettings(), pool, settings, model)
    secret = secrets.token_hex(16)
    with serving(job, backend, SecretStr(secret)):
        return work(settings.address, (USER, secret))


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--annotators", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=20)
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        rows = label(Path(folder), asked.annotators)
        print("serving; this takes about a minute and a half", file=sys.stderr)

        def work(address: str, auth: tuple[str, str]) -> dict[str, Any]:
            clicker = Clicker(address, auth, rows, np.random.default_rng(0))
            return measure(clicker, asked.annotators, asked.seconds)

        found = with_server(Path(folder), work)
    if asked.json:
        print(json.dumps(found))
        return
    for name in ("warm", "cache_empty"):
        print(f"{name:12} p50 {found[name]['p50_ms']:7.1f} ms  p95 {found[name]['p95_ms']:7.1f} ms")
    print(f"an empty cache takes {found['ratio_p50']} times as long in the median")
    print(f"{found['requests_per_second_below_1_s']:.0f} requests/s with a p95 below 1 s")


if __name__ == "__main__":
    main()
