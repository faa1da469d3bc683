"""A promoted version before people: what they touched stays, whatever kills the command."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
import ray
from pydantic import SecretStr
from safetensors.torch import load_file, save_file

from labelstudio.client import LabelStudioClient
from labelstudio.errors import TOKEN_VARIABLE
from labelstudio.projects import run_projects
from labelstudio.server import LabelStudioServer
from labelstudio.settings import LabelStudioSettings
from pipeline.candidates import current_version
from pipeline.cli import run as readloop
from pipeline.config import RunFile, load_run_file
from pipeline.label import LabelRun
from pipeline.learning.gate import Decision
from pipeline.progress import Progress
from pipeline.refreshing.lease import Lease
from pipeline.refreshing.shelf import Begun, Shelf
from pipeline.registry.lineage import Lineage
from pipeline.registry.registry import Registry
from pipeline.review.priority import features_of, hand_made
from pipeline.storage.store import open_store
from pipeline.storage.tables import PredictionTables
from tests.clocks import FastClock
from tests.e2e.learnable import TRAIN, whole_pictures, write_learnable
from workers.models import plan_model

pytestmark = pytest.mark.labelstudio

DOOMED = Path(__file__).with_name("doomed.py")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
Point = tuple[str, str, int]
KILLS: list[Point] = [
    ("LabelStudioClient.add_predictions", "after", 1),
    ("Steps.write", "before", 1),
    ("Steps.write", "before", 2),
]
TOUCHES = ("annotation", "skip", "draft")


@dataclass(frozen=True)
class Desk:
    """A published run, and the people who work on it."""

    path: Path
    run: RunFile
    client: LabelStudioClient
    settings: LabelStudioSettings
    token: str

    def tasks(self) -> list[dict[str, Any]]:
        """Return the project's tasks in full, by number."""
        (project,) = run_projects(self.client, self.settings)
        found = self.client.tasks(project.id, fields="all")
        return sorted(found, key=lambda task: int(task["id"]))

    def shown(self) -> dict[str, list[str]]:
        """Return whose predictions each picture's task has."""
        return {
            task["data"]["name"]: [found["model_version"] for found in task["predictions"]]
            for task in self.tasks()
        }

    def touch(self, task: dict[str, Any], how: str) -> None:
        """Work on a task: ``annotation``, ``skip`` or ``draft``."""
        path = f"/api/tasks/{task['id']}/{'drafts' if how == 'draft' else 'annotations/'}"
        body = {"result": [], "lead_time": 1.0, "was_cancelled": how == "skip"}
        headers = {"Authorization": f"Token {self.token}"}
        httpx.post(self.client.url + path, json=body, headers=headers).raise_for_status()


@pytest.fixture
def desk(
    label_studio: LabelStudioServer,
    ray_nodes: str,
    tmp_path: Path,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Desk]:
    """Six pictures that the first version has labeled; one is annotated, one skipped, one begun."""
    monkeypatch.setenv(TOKEN_VARIABLE, label_studio.token)
    monkeypatch.setenv("RAY_ADDRESS", ray_nodes)
    store = open_store(str(tmp_path / "store"), RunFile.model_fields["s3"].default)
    whole_pictures(tmp_path / "photos", 6, store)
    place = {"url": label_studio.url, "project": f"relabel {secrets.token_hex(4)}"}
    path = write_learnable(
        tmp_path,
        store,
        repository / "configs" / "models" / "tiny",
        TRAIN,
        [{"label": "square", "text": "the square"}],
        labelstudio=place,
        refresh={"relabel": 2},
        review={"blank_share": 0, "reword_share": 0},
    )
    run = load_run_file(path)
    token = SecretStr(label_studio.token)
    client = LabelStudioClient(label_studio.url, token)
    desk = Desk(path, run, client, LabelStudioSettings(**place), label_studio.token)
    ray.init(ray_nodes, log_to_driver=False, logging_level="ERROR")
    current_version(run, store, Progress())
    LabelRun(run, None, Event(), Progress()).label()
    for task, how in zip(desk.tasks(), TOUCHES, strict=False):
        desk.touch(task, how)
    yield desk
    ray.shutdown()


def promote(desk: Desk, folder: Path) -> str:
    """Let another version be promoted by refresh 1, which then dies; return its name."""
    tiny = Path(desk.run.finetune.base or "")
    shutil.copytree(tiny, folder)
    tensors = load_file(folder / "model.safetensors")
    name = next(key for key in sorted(tensors) if "mask_decoder" in key)
    tensors[name] = tensors[name] * 1.01
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    store = open_store(desk.run.store, desk.run.s3)
    registry, shelf = Registry(store), Shelf(store)
    base = registry.current()
    assert base
    version = plan_model(str(folder), desk.run.s3, "float32").version
    decision = Decision(
        "000001-test", version, base.version, {}, 0.1, (0.05, 0.15), (), True, ("promoted",)
    )
    begun = Begun(1, "dead:1:0", NOON, "9 new corrections", 9, 1, base.number, 0, None)
    shelf.begin(begun)
    registry.upload(folder, version)
    lineage = Lineage(version, base.version, "000001-test", "", "", NOON)
    registry.record(lineage)
    registry.move(version, "promote", base)
    shelf.steps(begun).write("learned", Decision, decision)
    return version


def start(desk: Desk, name: str, point: Point, time: datetime) -> "subprocess.Popen[str]":
    """Refresh in a process that gets a signal at a point."""
    where, when, count = point
    arguments = [str(desk.path), name, where, when, str(count), time.isoformat()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(DOOMED.parents[2])}
    return subprocess.Popen(
        [sys.executable, str(DOOMED), *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def refresh_and_die(desk: Desk, point: Point, time: datetime) -> None:
    """Refresh in a process that is killed at a point."""
    process = start(desk, "SIGKILL", point, time)
    _, told = process.communicate(timeout=600)
    assert process.returncode == -signal.SIGKILL, told


def refresh_and_be_suspended(desk: Desk, point: Point, time: datetime) -> str:
    """Refresh in a process that is suspended at a point while another takes the lease.

    Returns:
        What it said, from its first line to its last.
    """
    process = start(desk, "SIGSTOP", point, time)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    store = open_store(desk.run.store, desk.run.s3)
    other = Lease(store, timedelta(minutes=1), FastClock(time + timedelta(minutes=5)))
    other.take()
    process.send_signal(signal.SIGCONT)
    _, told = process.communicate(timeout=600)
    assert process.returncode == 1
    assert f"is refreshed by {other.owner}" in told
    return told


def test_untouched_tasks_show_the_new_version_and_a_rollback_takes_it_back(
    desk: Desk, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = open_store(desk.run.store, desk.run.s3)
    base = Registry(store).current()
    assert base
    before = desk.shown()
    assert list(before.values()) == [[base.version]] * 6
    names = [task["data"]["name"] for task in desk.tasks()]
    images = [(tmp_path / "photos" / name).as_uri() for name in names]
    goodness = {
        Path(rows[0].image_id).name: hand_made(features_of(rows[0]))
        for rows in PredictionTables(store).latest(images)
    }
    worst = sorted(names[3:], key=goodness.__getitem__)[:2]

    version = promote(desk, tmp_path / "candidate")
    refresh_and_be_suspended(desk, ("Steps.write", "before", 1), NOON + timedelta(hours=1))
    assert desk.shown() == before
    for hour, kill in enumerate(KILLS, 2):
        refresh_and_die(desk, kill, NOON + timedelta(hours=hour))
    assert Shelf(store).unfinished()

    assert readloop(["refresh", str(desk.path), "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert (report["number"], report["promoted"], report["relabeled"]["images"]) == (1, True, 2)
    assert report["relabeled"]["failed"] == report["published"]["failed"] == 0
    assert report["published"]["replaced"] + report["published"]["existing"] == 2
    assert desk.shown() == {name: [version] if name in worst else [base.version] for name in names}
    first = Shelf(store).last()
    assert first
    assert [Path(image).name for image in Shelf(store).steps(first).chosen() or ()] == worst

    by_name = {task["data"]["name"]: task for task in desk.tasks()}
    desk.touch(by_name[worst[0]], "annotation")
    assert readloop(["models", "rollback", str(desk.path), "--retract", "--json"]) == 0
    rolled = json.loads(capfd.readouterr().out)
    assert (rolled["version"], rolled["kind"]) == (base.version, "rollback")
    assert (rolled["retracted"]["retracted"], rolled["retracted"]["kept"]) == (1, 1)
    assert desk.shown() == {
        **{name: [base.version] for name in names},
        worst[0]: [version],
        worst[1]: [],
    }
