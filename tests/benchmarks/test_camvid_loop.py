"""The loop on photographs from end to end: real Label Studio, real Ray, the tiny checkpoint."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import ray

from benchmarks import camvid_loop
from benchmarks.camvid.annotators import Annotators
from benchmarks.camvid.loop import Loop, Server, round_path
from benchmarks.camvid.photos import read_photos
from benchmarks.camvid.report import result_of
from benchmarks.camvid.settings import OrderName, Play
from pipeline.errors import StoppedError
from pipeline.progress import Progress
from pipeline.registry.registry import Registry
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import Store, open_store

if TYPE_CHECKING:
    from labelstudio.server import LabelStudioServer
    from tests.benchmarks.conftest import WriteSet

QUERIES = 3
ROUNDS = (3, 6)
TRAIN = {
    "parts": "all",
    "steps": 6,
    "images_per_step": 2,
    "images_at_once": 2,
    "queries_per_image": 3,
    "loss_side": 48,
    "checkpoint_every": 100,
    "warmup": 0,
    "rate": 3e-3,
    "threads": 1,
    "scenes_share": 0,
    "dialogue_share": 0,
}
FREE = {"ciou": 1, "presence": 1, "accepted": 1, "replay_iou": 1, "replay_denied": 1}


@pytest.fixture
def play(write_set: "WriteSet", tmp_path: Path, repository: Path) -> Play:
    template = {
        "model": "registry",
        "review": {"blank_share": 0},
        "refresh": {"relabel": "all"},
        "pool": {"images_per_batch": 2},
        "finetune": {
            "base": str(repository / "configs" / "models" / "tiny"),
            "data": {"holdout": 0.6, "replay": {"scenes": {"count": 2, "judged": 1}}},
            "train": TRAIN,
            "gate": {"groups": 2, "margins": {**FREE, "dialogue_loss": 99}},
        },
    }
    play = Play(
        pool=read_photos(write_set("train", 6), 1),
        judged=read_photos(write_set("eval", 2, seed=6), 1),
        rounds=ROUNDS,
        work=tmp_path / "work",
        seed=0,
        template=template,
    )
    play.check()
    return play


@pytest.fixture
def server(label_studio: "LabelStudioServer", monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.token)
    return Server(label_studio.url, label_studio.token)


@pytest.fixture
def _connected(ray_nodes: str) -> Iterator[None]:
    ray.init(ray_nodes, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


class StopsAtWork(Progress):
    """Asks to stop when the first picture is corrected."""

    def __init__(self, stop: Event) -> None:
        super().__init__()
        self.stop = stop

    def begin(self, what: str) -> None:
        """Note whether pictures are corrected."""
        super().begin(what)
        self.correcting = what == "images corrected"

    def advance(self, count: int) -> None:
        """Stop the work."""
        super().advance(count)
        if self.correcting:
            self.stop.set()


def order_of(server: Server, project: int) -> list[tuple[float, str]]:
    """Return score and picture of the tasks without annotations, read one by one."""
    http = httpx.Client(base_url=server.url, headers={"Authorization": f"Token {server.token}"})
    with http:
        listed = http.get("/api/tasks", params={"project": project, "page_size": 100}).json()
        found = []
        for row in listed["tasks"]:
            task = http.get(f"/api/tasks/{row['id']}").json()
            if not task["annotations"]:
                (shown,) = task["predictions"]
                found.append((shown["score"], Path(task["data"]["name"]).stem))
        return sorted(found)


def annotated(server: Server, project: int) -> list[int]:
    """Return how many annotations each task has that has any."""
    http = httpx.Client(base_url=server.url, headers={"Authorization": f"Token {server.token}"})
    with http:
        listed = http.get("/api/tasks", params={"project": project, "page_size": 100}).json()
    counts = [row["total_annotations"] for row in listed["tasks"]]
    return sorted(count for count in counts if count)


def read(play: Play, order: OrderName, number: int, kind: str = "result") -> Any:
    return json.loads(round_path(play, order, number, kind).read_text())


def project_of(server: Server, title: str) -> int:
    with httpx.Client(
        base_url=server.url, headers={"Authorization": f"Token {server.token}"}
    ) as http:
        (found,) = http.get("/api/projects", params={"title": title}).json()["results"]
    return int(found["id"])


@pytest.mark.usefixtures("_connected")
def test_a_stopped_play_goes_on_and_every_round_learns_what_was_corrected(
    play: Play, server: Server
) -> None:
    stop = Event()
    with pytest.raises(StoppedError, match="stopped while correcting"):
        Loop(play, "worst", server, stop, StopsAtWork(stop)).play()
    project = project_of(server, "camvid worst")
    assert annotated(server, project)
    chosen = read(play, "worst", 1, "images")
    assert len(chosen) == 3
    with Annotators(server.url, server.token, project) as people:
        assert people.untouched() == [name for _, name in order_of(server, project)]

    Loop(play, "worst", server, Event(), Progress()).play()
    assert read(play, "worst", 1, "images") == chosen
    assert annotated(server, project) == [1] * 6
    store = open_store(str(play.folder("worst") / "store"), S3Settings())
    _check_corrections(play, store)
    result = result_of(play, ["worst"])
    _check_result(result, store)
    before = {path: path.stat().st_mtime_ns for path in play.work.glob("worst/rounds/*")}
    Loop(play, "worst", server, Event(), Progress()).play()
    assert before == {path: path.stat().st_mtime_ns for path in play.work.glob("worst/rounds/*")}


def _check_corrections(play: Play, store: Store) -> None:
    rows = list(CorrectionTable(store).latest())
    assert len(rows) == 6 * QUERIES
    by_picture = {photo.image.as_uri(): play.pool.truth(photo) for photo in play.pool.photos}
    for row in rows:
        assert row.present == by_picture[row.image].present(row.label)
    assert {row.verdict for row in rows if row.label == "hole"} <= {"absent", "accepted"}


def _check_result(result: dict[str, Any], store: Store) -> None:
    first, last = result["worst"]
    for row, images in ((first, 3), (last, 6)):
        assert row.keys() == {
            *("images", "miou", "ciou", "ciou_by_class", "presence", "replay_miou"),
            *("pixels_per_image", "promoted", "minutes"),
        }
        assert row["images"] == images
        assert row["pixels_per_image"] > 0
    assert first["promoted"], result["detail"]["worst"][1]["reasons"]
    assert first["miou"] > result["before"]["worst"]["miou"]
    current = Registry(store).current()
    assert current
    assert result["detail"]["worst"][-1]["version"] == current.version
    assert current.kind == "promote"


def test_the_command_names_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["camvid_loop.py", "--train", str(tmp_path)])
    assert camvid_loop.main() == 1
    assert "--train and --eval are needed" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["camvid_loop.py", "--table", str(tmp_path / "no.json")])
    assert camvid_loop.main() == 1
    assert "no.json: is not there" in capsys.readouterr().err
