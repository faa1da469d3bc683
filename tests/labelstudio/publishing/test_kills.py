"""Publishing processes that are really killed, again and again: no task twice, none missing."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from labelstudio.errors import TOKEN_VARIABLE
from pipeline.records import Prediction
from pipeline.storage.settings import S3Settings
from pipeline.storage.shards import write_shard
from pipeline.storage.store import open_store
from pipeline.storage.tables import PredictionTables

pytestmark = pytest.mark.labelstudio

Images = list[list[Prediction]]
Point = tuple[str, str, int]
DOOMED = Path(__file__).with_name("doomed.py")
COUNT = 33
UNHARMED = ("none", "", 0)

BETWEEN_REQUEST_AND_BOOKKEEPING = [("import_tasks", "after", 1 + kill % 2) for kill in range(10)]
ELSEWHERE = [
    ("create_project", "after", 1),
    ("write", "before", 1),
    ("write", "after", 1),
    ("import_tasks", "before", 2),
    ("write", "after", 5),
]
WHILE_REPLACING = [
    ("add_predictions", "after", 1),
    ("clear_predictions", "after", 1),
    ("add_predictions", "before", 2),
    ("write", "after", 1),
    ("add_predictions", "after", 2),
]


@pytest.fixture
def run(street: Any) -> Callable[[Images, Point], int]:
    """Publish images in a process of its own, which dies at a point; return its status."""

    def run(images: Images, point: Point) -> int:
        method, when, count = point
        done = subprocess.run(
            [
                *(sys.executable, str(DOOMED), str(street.folder), street.client.url),
                *(street.settings.project, method, when, str(count)),
            ],
            input="\n".join(row.key for image in images for row in image),
            env={**os.environ, TOKEN_VARIABLE: street.token.get_secret_value()},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode

    return run


def fill(street: Any, images: Images) -> None:
    store = open_store(str(street.folder), S3Settings())
    PredictionTables(store).commit([write_shard(store, [row for image in images for row in image])])


def kill_at(run: Callable[[Images, Point], int], images: Images, points: Sequence[Point]) -> None:
    statuses = [run(images, point) for point in points]
    assert statuses == [-signal.SIGKILL] * len(points)
    assert run(images, UNHARMED) == 0


@pytest.mark.parametrize("points", [BETWEEN_REQUEST_AND_BOOKKEEPING, ELSEWHERE])
def test_killed_while_making_tasks(
    street: Any, images_of: Any, run: Callable[..., int], points: Sequence[Point]
) -> None:
    images = images_of(COUNT)
    fill(street, images)
    kill_at(run, images, points)
    keys = Counter(task["data"]["key"] for task in street.tasks())
    assert (len(keys), set(keys.values())) == (COUNT, {1})
    assert street.differences(images) == ()
    assert [project.tasks for project in street.projects()] == [9, 9, 9, 6]


def test_killed_while_replacing_predictions(
    street: Any, images_of: Any, run: Callable[..., int]
) -> None:
    old, new = images_of(COUNT), images_of(COUNT, "tiny@2")
    fill(street, old)
    fill(street, new)
    assert run(old, UNHARMED) == 0
    touched = max(task["id"] for task in street.tasks())
    street.touch(touched, "annotation")
    kill_at(run, new, WHILE_REPLACING)
    shown = {task["id"]: task["predictions"] for task in street.tasks()}
    versions = Counter(tuple(p["model_version"] for p in found) for found in shown.values())
    assert versions == {("tiny@2",): COUNT - 1, ("tiny@1",): 1}
    assert [p["model_version"] for p in shown[touched]] == ["tiny@1"]
