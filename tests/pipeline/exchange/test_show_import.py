"""Imported masks reach a real Label Studio as pre-annotations."""

import json
import secrets
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from label_studio_sdk.converter.brush import decode_rle
from pycocotools.coco import COCO

from labelstudio.server import LabelStudioServer
from pipeline.cli import run as readloop
from tests.pipeline.exchange.conftest import HEIGHT, WIDTH, Street, rectangle

pytestmark = pytest.mark.labelstudio
CAR = rectangle(12, 5, 20, 12)
ROAD = rectangle(15, 0, 30, 40)


@pytest.fixture
def shown(
    street: Street, label_studio: LabelStudioServer, monkeypatch: pytest.MonkeyPatch
) -> Street:
    """The run with a project of its own on the server."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.token)
    title = f"imported {secrets.token_hex(4)}"
    return street.change(
        labelstudio={"url": label_studio.url, "project": title}, review={"blank_share": 0}
    )


def tasks_of(server: LabelStudioServer, published: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the tasks of what was published, by the names of their pictures."""
    (project,) = published["projects"]
    answer = httpx.get(
        f"{server.url}/api/tasks",
        params={"project": project, "fields": "all", "page_size": 100},
        headers={"Authorization": f"Token {server.token}"},
    )
    return {task["data"]["name"]: task for task in answer.raise_for_status().json()["tasks"]}


def masks_in(prediction: dict[str, Any]) -> dict[str, np.ndarray]:
    """Decode a prediction's masks with Label Studio's own decoder."""
    return {
        region["value"]["brushlabels"][0]: decode_rle(region["value"]["rle"]).reshape(
            HEIGHT, WIDTH, 4
        )[:, :, 3]
        > 0
        for region in prediction["result"]
        if region["type"] == "brushlabels"
    }


def publish(street: Street, capfd: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    capfd.readouterr()
    assert readloop(["publish", street.run_file(), "--json", *more]) == 0
    result: dict[str, Any] = json.loads(capfd.readouterr().out)
    return result


def png_folder(street: Street) -> Path:
    street.predict({("a/one.png", "car"): CAR, ("a/two.png", "road"): None})
    street.export("png")
    return street.out


def test_imported_predictions_are_shown_once_and_as_they_are(
    shown: Street, label_studio: LabelStudioServer, capfd: pytest.CaptureFixture[str]
) -> None:
    version = shown.bring(png_folder(shown), "predictions", fmt="png").model_version
    assert publish(shown, capfd, "--version", version)["created"] == 2
    again = publish(shown, capfd, "--version", version)
    assert again["created"] == 0
    tasks = tasks_of(label_studio, again)
    assert tasks.keys() == {"one.png", "two.png"}
    (prediction,) = tasks["one.png"]["predictions"]
    assert prediction["model_version"] == version
    np.testing.assert_array_equal(masks_in(prediction)["car"], CAR)
    (region,) = tasks["two.png"]["predictions"][0]["result"]
    assert region["value"] == {"choices": ["absent"]}


def test_the_models_own_predictions_come_to_the_same_tasks(
    shown: Street, label_studio: LabelStudioServer, capfd: pytest.CaptureFixture[str]
) -> None:
    version = shown.bring(png_folder(shown), "predictions", fmt="png").model_version
    publish(shown, capfd, "--version", version)
    shown.predict({("a/one.png", "road"): ROAD})
    again = publish(shown, capfd)
    assert again["created"] == 0
    task = tasks_of(label_studio, again)["one.png"]
    newest = max(task["predictions"], key=lambda row: row["id"])
    assert masks_in(newest).keys() == {"car", "road"}


def test_what_people_say_about_an_import_is_collected_and_exported(
    shown: Street, label_studio: LabelStudioServer, capfd: pytest.CaptureFixture[str]
) -> None:
    version = shown.bring(png_folder(shown), "predictions", fmt="png").model_version
    published = publish(shown, capfd, "--version", version)
    for task in tasks_of(label_studio, published).values():
        httpx.post(
            f"{label_studio.url}/api/tasks/{task['id']}/annotations",
            json={"result": task["predictions"][0]["result"], "lead_time": 5},
            headers={"Authorization": f"Token {label_studio.token}"},
        ).raise_for_status()
    assert readloop(["collect", shown.run_file(), "--json"]) == 0
    manifest = shown.export("coco", "corrections", replace=True)
    assert (manifest["present"], manifest["absent"]) == (1, 1)
    exported = COCO(str(shown.out / "annotations.json"))
    (annotation,) = exported.dataset["annotations"]
    np.testing.assert_array_equal(exported.annToMask(annotation), CAR)
    assert annotation["verdict"] == "accepted"
    assert {row.model_version for row in shown.corrections().values()} == {version}


def test_a_version_that_is_not_there_is_named(
    shown: Street, label_studio: LabelStudioServer, capfd: pytest.CaptureFixture[str]
) -> None:
    assert label_studio
    assert readloop(["publish", shown.run_file(), "--version", "import:none@0"]) == 1
    assert "no predictions of version import:none@0" in capfd.readouterr().err
