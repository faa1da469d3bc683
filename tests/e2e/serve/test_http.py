"""The backend's answers, what it refuses, and weights that change while it is asked."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import httpx
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from labelstudio import brush
from labelstudio.interactive.request import PointRegion
from labelstudio.interface import ASK
from labelstudio.publishing.payload import regions_of
from pipeline import masks
from tests.e2e.serve.conftest import SETTINGS, Mask, Served, click

pytestmark = pytest.mark.labelstudio

TOKEN = "token-that-nobody-may-log"


def mask_of(answer: httpx.Response, height: int, width: int) -> Mask:
    (region,) = (
        region
        for region in answer.json()["results"][0]["result"]
        if region["type"] == "brushlabels"
    )
    return brush.decode(region["value"]["rle"], height, width) > brush.PAINTED_ABOVE


def test_the_answer_is_the_decoders_mask_of_all_points(served: Served) -> None:
    row = served.rows[0]
    answer = served.call("POST", "/predict", json=served.message(click(30, 40)))
    assert answer.status_code == 200, answer.text
    shown = [r for r in regions_of(row, SETTINGS).regions if r["type"] == "keypointlabels"]
    current = [
        PointRegion(r["id"], "square", 0, 0, r["value"]["x"], r["value"]["y"], 1, "", "", False)
        for r in shown
        if r["value"]["keypointlabels"] == ["square -"]  # no other + is in the message's context
    ] + [PointRegion("new", "square", 1, 1, 30, 40, 1, "", "", True)]
    expected = served.refined("square", current)
    assert np.array_equal(mask_of(answer, row.height, row.width), expected)
    assert (expected != masks.decode(row.mask)).any()
    assert answer.json()["results"][0]["model_version"] == served.version


def test_images_are_encoded_once(served: Served) -> None:
    served.call("POST", "/predict", json=served.message(click(20, 20)))
    before = served.call("GET", "/health").json()["images_encoded"]
    served.call("POST", "/predict", json=served.message(click(25, 20)))
    assert served.call("GET", "/health").json()["images_encoded"] == before


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/health"), ("POST", "/setup"), ("POST", "/predict"), ("PUT", "/model"), ("GET", "/")],
)
def test_nothing_is_told_without_the_secret(served: Served, method: str, path: str) -> None:
    for auth in (None, ("readloop", "guess"), ("readloop", "")):
        answer = httpx.request(method, served.address + path, auth=auth, timeout=30)
        assert answer.status_code == 401
        assert served.version not in answer.text


def test_the_token_that_comes_with_setup_is_in_no_log(served: Served) -> None:
    body = {"project": "1.1", "schema": "<View/>", "access_token": TOKEN, "hostname": "http://x"}
    assert served.call("POST", "/setup", json=body).json() == {"model_version": served.version}
    assert served.call("POST", "/webhook", json={"action": TOKEN}).json() == {}
    served.call("POST", "/predict", content=TOKEN.encode())
    logs = [file for file in served.logs.rglob("*") if file.is_file() and not file.is_symlink()]
    assert any("serve" in file.parts for file in logs)
    for secret in (TOKEN, served.secret, served.token):
        found = [file for file in logs if secret.encode() in file.read_bytes()]
        assert [file for file in found if file.suffix != ".sqlite3"] == []


def test_sizes_are_bounded(served: Served) -> None:
    large = served.call("POST", "/predict", content=b" " * 400_001)
    assert (large.status_code, "400000" in large.text) == (413, True)
    streamed = served.call("POST", "/predict", content=(b" " * 100_000 for _ in range(9)))
    assert streamed.status_code == 413
    many = served.message(*(click(1, 1, f"p{n}") for n in range(101)))
    answer = served.call("POST", "/predict", json=many)
    assert (answer.status_code, "101 points" in answer.text) == (400, True)


def test_a_full_line_says_so(served: Served) -> None:
    def ask(number: int) -> httpx.Response:
        asked = {"id": "q", "type": "textarea", "from_name": ASK}
        body = served.message(asked | {"value": {"text": [f"thing number {number}"]}}, id=number)
        return served.call("POST", "/predict", json=body)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(1000, 1016)))
    codes = [answer.status_code for answer in answers]
    assert set(codes) == {200, 429}
    assert codes.count(200) >= 4
    assert "4 requests wait already" in answers[codes.index(429)].text


def test_no_other_image_can_be_had(served: Served) -> None:
    strange = {"id": "f" * 32, "type": "choices", "from_name": "verdict_square"}
    message = served.message(
        click(1, 1),
        data={"image": "file:///etc/passwd", "key": "k"},
        predictions=[{"result": [strange]}],
    )
    answer = served.call("POST", "/predict", json=message)
    assert (answer.status_code, "not in the table" in answer.text) == (400, True)


def test_weights_are_swapped_without_a_failed_request(
    served: Served, repository: Path, tmp_path: Path
) -> None:
    other = other_weights(repository / "configs" / "models" / "tiny", tmp_path / "other")
    versions: list[str] = []
    failures: list[str] = []
    done = Event()

    def load(task: int) -> None:
        """Click without a pause, and once more after the swap."""
        last = False
        while not last:
            last = done.is_set()
            x = 10 + len(versions) % 80
            answer = served.call("POST", "/predict", json=served.message(click(x, 50), id=task))
            if answer.status_code != 200:
                failures.append(answer.text)
                return
            versions.append(answer.json()["results"][0].get("model_version", ""))

    with ThreadPoolExecutor(3) as pool:
        loads = [pool.submit(load, task) for task in (1, 2, 3)]
        try:
            swapped = served.call("PUT", "/model", json={"model": str(other)})
        finally:
            done.set()
        for one in loads:
            one.result()
    assert swapped.status_code == 200, swapped.text
    assert failures == []
    assert set(versions) >= {served.version, swapped.json()["model_version"]}
    refused = served.call("PUT", "/model", json={"model": str(tmp_path / "nothing")})
    assert (refused.status_code, "no such folder" in refused.text) == (400, True)
    back = served.call("PUT", "/model", json={"model": str(repository / "configs/models/tiny")})
    assert back.json()["model_version"] == served.version


def other_weights(tiny: Path, folder: Path) -> Path:
    """Copy a checkpoint with one weight changed."""
    shutil.copytree(tiny, folder)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("mask_tokens.weight"))
    tensors[name] = tensors[name] * 1.01
    save_file(tensors, file)
    return folder
