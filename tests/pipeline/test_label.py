"""The label run without replicas: what is open, what is skipped, what the summary says."""

import io
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from pipeline.cli import run
from pipeline.config import RunFile
from pipeline.errors import StoppedError
from pipeline.label import LabelRun
from pipeline.plan import Plan
from pipeline.progress import Progress
from pipeline.records import Failure, ImageTasks, Prediction
from pipeline.sources.tasks import image_tasks
from pipeline.storage.shards import write_shard
from pipeline.summary import Summary

if TYPE_CHECKING:
    from tests.conftest import S3Server

TasksOf = Callable[..., list[ImageTasks]]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (20, 10)).save(folder / name)
    return folder


@pytest.fixture
def label_run(photos: Path, tmp_path: Path, repository: Path) -> Callable[..., LabelRun]:
    """Open a run over two pictures and two queries, of the tiny model."""

    def make(stop: threading.Event | None = None) -> LabelRun:
        source = {"images": str(photos), "queries": [{"text": "road"}, {"text": "absent"}]}
        run = RunFile.model_validate(
            {
                "name": "test",
                "store": str(tmp_path / "store"),
                "source": source,
                "model": str(repository / "configs" / "models" / "tiny"),
            }
        )
        return LabelRun(run, None, stop or threading.Event(), Progress(io.StringIO()))

    return make


def leave_shards(
    run: LabelRun, predict: Callable[..., Prediction], fail: Callable[..., Failure], failed: int = 0
) -> None:
    """Write the shards of a finished run, the first of its rows failed, and commit nothing."""
    model = run.model
    images = image_tasks(run.run.source, run.run.s3, model.version, model.settings_json)
    tasks = [(work.image, task) for work in images for task in work.tasks]
    for n, (image, task) in enumerate(tasks):
        made = fail(n, task.query) if n < failed else predict(n, task.query)
        row = replace(made, key=task.key, image_id=image.id, image=image.uri)
        write_shard(run.store, [row])


def test_a_finished_run_run_again_starts_no_replica(
    label_run: Callable[..., LabelRun],
    predict: Callable[..., Prediction],
    fail: Callable[..., Failure],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leave_shards(label_run(), predict, fail)
    monkeypatch.setenv("RAY_ADDRESS", "nowhere:1")
    summary = label_run().label()
    assert (summary.images, summary.queries, summary.skipped) == (2, 4, 4)
    assert (summary.present, summary.absent, summary.failed, summary.exit_code) == (2, 2, 0, 0)
    assert (summary.pushed, summary.images_per_second) == (0, 0.0)


def test_failed_rows_of_a_finished_run_still_end_it_with_2(
    label_run: Callable[..., LabelRun],
    predict: Callable[..., Prediction],
    fail: Callable[..., Failure],
) -> None:
    leave_shards(label_run(), predict, fail, failed=1)
    run = label_run()
    summary = run.label()
    assert (summary.failed, summary.skipped, summary.exit_code) == (1, 4, 2)
    (failure,) = run.failures()
    assert f"failed: {failure.image}" in summary.to_text("store", [failure])


def test_a_stop_while_planning_is_a_stop(label_run: Callable[..., LabelRun]) -> None:
    stop = threading.Event()
    run = label_run(stop)
    stop.set()
    with pytest.raises(StoppedError, match="run again"):
        run.label()


def test_a_plan_passes_on_only_what_is_open(tasks_of: TasksOf, photos: Path) -> None:
    work = tasks_of(photos, ["road", "sky"])
    first, second = (image.tasks for image in work)
    done = {first[0].key, second[0].key, second[1].key}
    plan = Plan(threading.Event())
    (left,) = plan.open_work(work, done.__contains__)
    assert left == replace(work[0], tasks=first[1:])
    assert (plan.images, plan.open, plan.skipped) == (2, 1, 3)
    assert plan.keys == [task.key for task in (*first, *second)]
    assert list(plan.labels) == ["query 1", "query 2"]


def test_the_json_has_the_documented_keys_only() -> None:
    summary = Summary(1, 2, 1, 1, 0, 0, 0, 1.23456, 0.81, unpublished=("a", "b"))
    names = "images queries present absent failed pushed skipped seconds images_per_second"
    assert list(summary.to_json()) == names.split()
    assert summary.to_json()["seconds"] == 1.235
    assert summary.exit_code == 2


def test_progress_elsewhere_than_on_a_terminal_is_plain_lines() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    progress.begin("queries labeled")
    progress.expect(8)
    progress.advance(3)
    progress.end()
    progress.end()
    assert stream.getvalue() == "queries labeled: 3 of 8\n"


def test_refused_credentials_for_a_whole_source_end_the_run(
    s3: "S3Server",
    tmp_path: Path,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    s3.make_bucket("photos", {"a.png": b"x"})
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    run_file = tmp_path / "run.yaml"
    content = {
        "name": "test",
        "store": str(tmp_path / "store"),
        "source": {"images": "s3://photos", "queries": [{"text": "road"}]},
        "model": str(repository / "configs" / "models" / "tiny"),
        "s3": {"endpoint": s3.endpoint, "retries": 0},
    }
    run_file.write_text(json.dumps(content))
    assert run(["label", str(run_file), "--json"]) == 1
    captured = capfd.readouterr()
    assert "s3://photos" in captured.err
    assert "wrong" not in captured.err
    assert not captured.out
