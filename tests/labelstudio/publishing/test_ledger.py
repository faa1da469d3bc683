"""What the ledger knows when it is opened again."""

from collections.abc import Callable
from pathlib import Path

import pytest

from labelstudio.client import Project
from labelstudio.publishing.ledger import Ledger, about_to_replace, made, retracted
from labelstudio.publishing.payload import TaskPayload, tasks_of
from labelstudio.settings import LabelStudioSettings
from pipeline.records import Prediction
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import Store, open_store

Images = Callable[..., list[list[Prediction]]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"), S3Settings())


def project(number: int, created_at: str) -> Project:
    return Project(number, created_at, "street", {}, ("road", "sky"), 0, "")


def task(images_of: Images, version: str) -> TaskPayload:
    (image,) = images_of(1, version)
    settings = LabelStudioSettings(url="http://127.0.0.1:1", project="street")
    (found,) = tasks_of(image, "street", settings)
    return found


def test_a_version_that_was_to_be_replaced_is_still_known_as_ours(
    store: Store, images_of: Images
) -> None:
    here = project(1, "monday")
    ledger = Ledger(store, [here])
    assert ledger.model_versions == frozenset()
    ledger.write([made(task(images_of, "tiny@1"), 1, 7)])
    ledger.write([about_to_replace(task(images_of, "tiny@2"), 1, 7)])
    for known in (ledger, Ledger(store, [here])):
        assert known.model_versions == {"tiny@1", "tiny@2"}
        (entry,) = known.entries().values()
        assert (entry.model_version, entry.doubtful) == ("tiny@2", True)


def test_a_retracted_task_makes_no_nameless_prediction_ours(
    store: Store, images_of: Images
) -> None:
    here = project(1, "monday")
    ledger = Ledger(store, [here])
    shown = task(images_of, "tiny@1")
    ledger.write([made(shown, 1, 7)])
    ledger.write([retracted(shown.key, ledger.entries()[shown.key], shown.prediction_keys)])
    for known in (ledger, Ledger(store, [here])):
        assert known.model_versions == {"tiny@1"}


def test_tasks_of_an_image_are_known_beside_one_that_is_gone(
    store: Store, prediction: Callable[..., Prediction]
) -> None:
    rows = [prediction(label) for label in ("road", "sky", "car")]
    narrow = LabelStudioSettings(url="http://127.0.0.1:1", project="street", queries_per_task=1)
    tasks = tasks_of(rows, "street", narrow)
    here = project(1, "monday")
    ledger = Ledger(store, [here])
    ledger.write([made(task, 1, 7 + place) for place, task in enumerate(tasks)])
    for known in (ledger, Ledger(store, [here])):
        known.forget(tasks[1].key)
        for first, numbers in ((0, [7, 9]), (1, [9]), (3, [])):
            found = known.of_image("street", rows[0].image_id, first)
            assert [entry.task for _, entry in found] == numbers


def test_what_was_sent_to_an_earlier_project_is_not_ours(store: Store, images_of: Images) -> None:
    Ledger(store, [project(1, "monday")]).write([made(task(images_of, "tiny@1"), 1, 7)])
    assert Ledger(store, [project(1, "tuesday")]).model_versions == frozenset()
