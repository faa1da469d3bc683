"""What it costs to answer with another model version: a hot swap, against a restart.

    python benchmarks/swap.py [--json] [--annotators 6] [--seconds 10] [--images 40]

Serving: ``readloop serve`` runs with the tiny checkpoint as the registry's current version. Each
annotator adds a point a second on a picture of their own, without a pause. A second version is
promoted, and the server moves on by itself; then the server is stopped and started again, which is
the other way to a new version. "failed" are requests without an answer of status 200, "down" is the
time from the first of them to the next answer. The times of requests are given before the
promotion, until the new version answers, and after.

Bulk: ``readloop label`` with two replicas; the second version is promoted once a shard is written.
A replica's pause is from dropping the old model to having the new one.

No Label Studio is involved. The two versions differ in one weight.
"""

import argparse
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import yaml
from safetensors.torch import load_file, save_file

from benchmarks.refine import Clicker, label
from pipeline.cli.terminal import chatter_on_stderr
from pipeline.config import load_run_file
from pipeline.label import LabelRun
from pipeline.progress import Progress
from pipeline.registry.lineage import Lineage
from pipeline.registry.registry import Registry
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import Store, open_store
from workers.cluster import ray_session
from workers.read.identity import fingerprint
from workers.scenes import write_scenes
from workers.serve.gate import USER
from workers.settings import PoolSettings

REPOSITORY = Path(__file__).resolve().parents[1]
TINY = REPOSITORY / "configs" / "models" / "tiny"
READLOOP = Path(sys.executable).with_name("readloop")
CHANGED = "model.visual_model.mask_decoder.mask_tokens.weight"
UP_SECONDS = 600
OK = 200
FOLLOW_SECONDS = 1.0


@dataclass(frozen=True)
class Sent:
    """A request: when it was sent, how many seconds its answer took, and whether it was one."""

    at: float
    seconds: float
    answered: bool


@dataclass
class Load:
    """Annotators who add a point a second each until told to stop."""

    clicker: Clicker
    annotators: int
    sent: list[Sent] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send requests inside of the ``with``."""
        with ThreadPoolExecutor(self.annotators) as pool:
            working = [pool.submit(self._work, number) for number in range(self.annotators)]
            try:
                yield
            finally:
                self._stop.set()
            for one in working:
                one.result()

    def _work(self, annotator: int) -> None:
        time.sleep(annotator / self.annotators)
        with httpx.Client(timeout=60, trust_env=False) as client:
            while not self._stop.is_set():
                begun = time.monotonic()
                body = self.clicker.body(annotator)
                try:
                    address = f"{self.clicker.address}/predict"
                    answer = client.post(address, content=body, auth=self.clicker.auth)
                    answered = answer.status_code == OK
                except httpx.HTTPError:
                    answered = False
                taken = time.monotonic() - begun
                self.sent.append(Sent(begun, taken, answered))
                self._stop.wait(max(0.0, 1.0 - taken))

    def between(self, begin: float, end: float) -> list[Sent]:
        """Return the requests that were sent in a time, oldest first."""
        chosen = [one for one in self.sent if begin <= one.at < end]
        return sorted(chosen, key=lambda one: one.at)


@dataclass(frozen=True)
class Bench:
    """A folder with a run file and a store whose registry holds two versions."""

    folder: Path
    store: Store
    versions: tuple[str, str]

    def promote(self, version: str) -> None:
        """Move the pointer."""
        registry = Registry(self.store)
        registry.move(version, "promote", registry.current())


def prepare(folder: Path, source: dict[str, Any], port: int) -> Bench:
    """Write the run file and put both versions into the registry, the first as the current one."""
    run = {
        "name": "swap",
        "store": str(folder / "store"),
        "source": source,
        "model": "registry",
        "pool": {"replicas": 2, "images_per_batch": 1, "follow_seconds": FOLLOW_SECONDS},
        "serve": {"port": port, "follow_seconds": FOLLOW_SECONDS, "waiting": 1_000},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(run), encoding="utf-8")
    store = open_store(str(folder / "store"), S3Settings())
    other = folder / "other"
    shutil.copytree(TINY, other)
    tensors = load_file(other / "model.safetensors")
    tensors[CHANGED] = tensors[CHANGED] * 1.01
    save_file(tensors, other / "model.safetensors")
    registry = Registry(store)
    versions = []
    for weights in (TINY, other):
        version = fingerprint(weights)
        registry.upload(weights, version)
        registry.record(Lineage(version, "", "", str(weights), "benchmark", datetime.now(UTC)))
        versions.append(version)
    registry.move(versions[0], "base", None)
    return Bench(folder, store, (versions[0], versions[1]))


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(bench: Bench, secret: str) -> "subprocess.Popen[str]":
    """Start the server and return once it answers."""
    environment = {**os.environ, "READLOOP_BACKEND_SECRET": secret}
    process = subprocess.Popen(
        [READLOOP, "serve", bench.folder / "run.yaml", "--no-connect", "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    if not process.stdout.readline():
        raise SystemExit("the server does not start")
    return process


def stop(process: "subprocess.Popen[str]") -> None:
    """Stop the server and wait for its end."""
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=UP_SECONDS)


def latency(sent: Sequence[Sent]) -> dict[str, float]:
    """Return the number of requests and their 95th percentile in milliseconds."""
    times = [1e3 * one.seconds for one in sent if one.answered]
    return {
        "requests": len(sent),
        "p95_ms": round(float(np.percentile(times, 95)), 1) if times else 0.0,
    }


def failed_seconds(sent: Sequence[Sent]) -> float:
    """Return the time from the first failed request to the first answer after the last of them."""
    failed = [one.at for one in sent if not one.answered]
    if not failed:
        return 0.0
    after = [one.at + one.seconds for one in sent if one.answered and one.at > failed[-1]]
    return round(min(after) - failed[0], 3)


def serving_part(folder: Path, annotators: int, seconds: float) -> dict[str, Any]:
    """Promote under load, then restart under load."""
    port, secret = free_port(), secrets.token_hex(16)
    source = {"images": str(folder), "queries": [{"text": "unused"}]}
    bench = prepare(folder, source, port)
    rows = label(folder / "store", annotators)
    address, auth = f"http://127.0.0.1:{port}", (USER, secret)
    clicker = Clicker(address, auth, rows, np.random.default_rng(0))
    process = start(bench, secret)
    try:
        load = Load(clicker, annotators)
        with load.running():
            time.sleep(3)  # every picture is encoded by then
            begun = time.monotonic()
            time.sleep(seconds)
            promoted = time.monotonic()
            bench.promote(bench.versions[1])
            health = wait_for(address, auth, bench.versions[1])
            swapped = time.monotonic()
            time.sleep(seconds)
            restarted = time.monotonic()
            stop(process)
            process = start(bench, secret)
            time.sleep(seconds)
    finally:
        stop(process)
    swap, restart = load.between(begun, restarted), load.between(restarted, time.monotonic())
    return {
        "pause_seconds": health["last_swap"]["pause_seconds"],
        "load_seconds": round(health["last_swap"]["load_seconds"], 3),
        "requests": len(swap),
        "failed": sum(not one.answered for one in swap),
        "before": latency(load.between(begun, promoted)),
        "during": latency(load.between(promoted, swapped)),
        "after": latency(load.between(swapped, restarted)),
        "restart": {
            "requests": len(restart),
            "failed": sum(not one.answered for one in restart),
            "down_seconds": failed_seconds(restart),
        },
    }


def wait_for(address: str, auth: tuple[str, str], version: str) -> dict[str, Any]:
    """Return the server's health once it answers with a version."""
    end = time.monotonic() + UP_SECONDS
    while time.monotonic() < end:
        health: dict[str, Any] = httpx.get(f"{address}/health", auth=auth, timeout=60).json()
        if health["model_version"] == version:
            return health
        time.sleep(0.05)
    raise SystemExit(f"the server does not move on: {health}")


def bulk_part(folder: Path, images: int) -> dict[str, Any]:
    """Promote in the middle of a label run."""
    manifest = write_scenes(20_240_117, images, folder / "scenes")
    bench = prepare(folder, {"images": str(manifest)}, free_port())
    run = LabelRun(load_run_file(folder / "run.yaml"), None, threading.Event(), Progress())
    shards = folder / "store" / "shards"
    promoting = once(
        lambda: any(shards.glob("*/*.parquet")), lambda: bench.promote(bench.versions[1])
    )
    summary = run.label()
    promoting.join()
    made = dict.fromkeys(bench.versions, 0)
    mixed = 0
    for rows in run.tables.read_by_image(run.plan.keys):
        found = {row.model_version for row in rows}
        mixed += len(found) > 1
        made[rows[0].model_version] += 1
    changes = [change for change in run.swaps.changes if not change.reason]
    return {
        "pause_seconds": [round(change.pause, 3) for change in changes],
        "load_seconds": [round(change.load, 3) for change in changes],
        "images": summary.images,
        "images_by_version": made,
        "images_mixed": mixed,
        "failed": summary.failed,
        "seconds": round(summary.seconds, 2),
    }


def once(holds: Callable[[], bool], act: Callable[[], None]) -> threading.Thread:
    """Start a thread that acts as soon as something holds."""

    def wait() -> None:
        while not holds():
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def as_text(found: dict[str, Any]) -> str:
    """Return a few lines for a person."""
    serving, bulk = found["serving"], found["bulk"]
    restart = serving["restart"]
    lines = [
        f"serving: exchanged in {1e3 * serving['pause_seconds']:.2f} ms after "
        f"{serving['load_seconds']:.2f} s of loading beside; "
        f"{serving['failed']} of {serving['requests']} requests failed",
        *(
            f"  {when:6} p95 {serving[when]['p95_ms']:7.1f} ms"
            for when in ("before", "during", "after")
        ),
        f"  a restart: {restart['failed']} of {restart['requests']} requests failed, "
        f"down for {restart['down_seconds']:.1f} s, {found['ratio']:.0f} times the pause",
        f"bulk: replicas paused {', '.join(f'{one:.2f} s' for one in bulk['pause_seconds'])}; "
        f"{bulk['failed']} failed, {bulk['images_mixed']} images mixed, images by version "
        + ", ".join(f"{count}" for count in bulk["images_by_version"].values()),
    ]
    return "\n".join(lines)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--annotators", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--images", type=int, default=40)
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as name:
        for part in ("serving", "bulk"):
            Path(name, part).mkdir()
        print("serving, then a restart: a minute or two", file=sys.stderr)
        serving = serving_part(Path(name, "serving"), asked.annotators, asked.seconds)
        with chatter_on_stderr(), ray_session(PoolSettings(replicas=2)):
            bulk = bulk_part(Path(name, "bulk"), asked.images)
    ratio = serving["restart"]["down_seconds"] / serving["pause_seconds"]
    found = {"serving": serving, "bulk": bulk, "ratio": round(ratio, 1)}
    print(json.dumps(found) if asked.json else as_text(found))


if __name__ == "__main__":
    main()
