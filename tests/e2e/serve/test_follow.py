"""``readloop serve`` follows the registry: a promotion under load, a bad one, a choice by hand."""

import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import httpx
import pytest
import yaml

from labelstudio.publishing.payload import regions_of
from pipeline.records import Prediction
from pipeline.storage.settings import S3Settings
from pipeline.storage.shards import write_shard
from pipeline.storage.store import Store, open_store
from pipeline.storage.tables import PredictionTables
from tests.e2e.serve.conftest import (
    PICTURE,
    SETTINGS,
    click,
    free_port,
    predicted,
    serving,
)
from tests.versions import IOU_SHIFT, less_sure, make_current, record
from workers.read.engine import ReadEngine

THREADS = 3
PATIENCE_SECONDS = 240
Json = dict[str, Any]


@dataclass(frozen=True)
class Follower:
    """A server whose run says ``model: registry``; the first of two versions is current."""

    address: str
    secret: str
    store: Store
    rows: tuple[Prediction, ...]
    first: str
    second: str
    errors: Path

    def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Send a request with the secret."""
        login = ("readloop", self.secret)
        return httpx.request(
            method, self.address + path, auth=login, timeout=PATIENCE_SECONDS, **more
        )

    def health(self) -> Json:
        """Return what the server says of itself."""
        found: Json = self.call("GET", "/health").json()
        return found

    def until(self, holds: Callable[[Json], bool]) -> Json:
        """Wait until the server's health is as wanted."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            if holds(found := self.health()):
                return found
            time.sleep(0.1)
        pytest.fail(f"never came: {found}, {self.errors.read_text(encoding='utf-8')}")

    def click(self, task: int) -> httpx.Response:
        """Add the same point of a query as everybody else, on a task."""
        shown = [region for row in self.rows for region in regions_of(row, SETTINGS).regions]
        whole = {
            "id": task,
            "data": {"image": "unused", "key": "any"},
            "predictions": [{"id": 1, "updated_at": "1", "result": shown}],
        }
        context = {"result": [click(30, 40)]}
        body = {"tasks": [whole], "params": {"context": context}}
        return self.call("POST", "/predict", json=body)


@pytest.fixture
def follower(repository: Path, tmp_path: Path) -> Iterator[Follower]:
    tiny = repository / "configs" / "models" / "tiny"
    _, rows = predicted(ReadEngine.load(tiny), repository / "configs/demo/images" / PICTURE)
    store = open_store(str(tmp_path / "store"), S3Settings())
    PredictionTables(store).commit([write_shard(store, rows)])
    first = record(store, tiny)
    second = record(store, less_sure(tiny, tmp_path / "second"))
    make_current(store, first)
    run = {
        "name": "follow",
        "store": str(tmp_path / "store"),
        "source": {"images": str(tmp_path), "queries": [{"label": "a", "text": "a"}]},
        "model": "registry",
        "serve": {"port": free_port(), "follow_seconds": 0.5},
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(run), encoding="utf-8")
    secret = secrets.token_hex(16)
    with serving(path, secret, "--no-connect") as up:
        assert up["model_version"] == first
        errors = tmp_path / "stderr"
        yield Follower(up["address"], secret, store, tuple(rows), first, second, errors)


def test_a_promotion_under_load_fails_no_request_and_mixes_no_answer(follower: Follower) -> None:
    done, answering = Event(), Barrier(THREADS + 1)

    def load(task: int) -> list[httpx.Response]:
        answers = [follower.click(task)]
        answering.wait(PATIENCE_SECONDS)
        while not done.is_set():
            answers.append(follower.click(task))
        return [*answers, follower.click(task)]

    with ThreadPoolExecutor(THREADS) as pool:
        loads = [pool.submit(load, task) for task in range(THREADS)]
        try:
            answering.wait(PATIENCE_SECONDS)
            make_current(follower.store, follower.second)
            health = follower.until(lambda found: found["model_version"] == follower.second)
        finally:
            done.set()
    by_thread = [one.result() for one in loads]
    assert {answer.status_code for answers in by_thread for answer in answers} == {200}
    scores: dict[str, set[float]] = {follower.first: set(), follower.second: set()}
    for answers in by_thread:
        found = [answer.json()["results"][0] for answer in answers]
        versions = [one["model_version"] for one in found]
        change = versions.index(follower.second)
        assert versions[0] == follower.first
        assert set(versions[:change]) == {follower.first}, "the old one until the exchange"
        assert set(versions[change:]) == {follower.second}, "and the new one from then on"
        for one in found:
            scores[one["model_version"]] |= {region["score"] for region in one["result"][:1]}
    (old,), (new,) = scores[follower.first], scores[follower.second]
    assert new - old == pytest.approx(IOU_SHIFT, abs=0.02), "each by the version that it names"
    swap = health["last_swap"]
    assert (swap["before"], swap["after"]) == (follower.first, follower.second)
    assert 0 < swap["pause_seconds"] < swap["load_seconds"]
    assert (health["swaps"], health["not_loaded"], health["following"]) == (1, None, True)

    # a choice by hand holds, until the pointer moves
    weights = str(Path(follower.store.uri.removeprefix("file://"), "models", follower.first))
    assert follower.call("PUT", "/model", json={"model": weights}).status_code == 200
    time.sleep(2)
    assert follower.health()["model_version"] == follower.first
    make_current(follower.store, follower.first)
    make_current(follower.store, follower.second)
    assert follower.until(lambda found: found["model_version"] == follower.second)["swaps"] == 3


def test_a_version_that_cannot_be_loaded_is_told_and_the_old_one_answers(
    follower: Follower,
) -> None:
    broken = Path(follower.store.uri.removeprefix("file://"), "models", follower.second)
    (broken / "model.safetensors").write_bytes(b"not weights")
    make_current(follower.store, follower.second)
    health = follower.until(lambda found: found["not_loaded"] is not None)
    assert health["not_loaded"]["model_version"] == follower.second
    assert "were changed" in health["not_loaded"]["reason"]
    answer = follower.click(1)
    assert answer.status_code == 200
    assert answer.json()["results"][0]["model_version"] == follower.first
    make_current(follower.store, follower.first)
    assert follower.until(lambda found: found["not_loaded"] is None)["swaps"] == 0
