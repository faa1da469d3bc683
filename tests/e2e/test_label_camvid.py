"""The 101 street photographs, from a directory and from S3, into the table and Label Studio."""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from labelstudio.client import LabelStudioClient
from labelstudio.projects import run_projects
from labelstudio.publishing.verify import verify
from labelstudio.settings import LabelStudioSettings
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import Store, open_store
from tests.tables import all_predictions

if TYPE_CHECKING:
    from labelstudio.server import LabelStudioServer
    from tests.conftest import S3Server
    from tests.e2e.conftest import Readloop

QUERIES = ["the road", "the sky", "a car", "a pedestrian"]
UNITS = 404


@pytest.fixture
def check(
    readloop: "Readloop", label_studio: "LabelStudioServer", monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Label what lies there, and account for every unit in the table and in Label Studio."""

    def label(images: str, store: Store, **changes: object) -> None:
        title = f"camvid {secrets.token_hex(4)}"
        readloop.environment["LABEL_STUDIO_API_KEY"] = label_studio.token
        run = readloop.write_run(
            images,
            QUERIES,
            store=store.uri,
            pool={"replicas": 2, "images_per_batch": 8},
            labelstudio={"url": label_studio.url, "project": title},
            **changes,
        )
        done = readloop("label", run, "--json")
        assert done.code == 0, done.stderr
        assert done.result
        assert (done.result["images"], done.result["queries"]) == (101, UNITS)
        assert done.result["present"] + done.result["absent"] == UNITS
        assert done.result["pushed"] == 101

        rows = all_predictions(store)
        assert len({row.key for row in rows}) == len(rows) == UNITS
        client = LabelStudioClient(label_studio.url, SecretStr(label_studio.token))
        settings = LabelStudioSettings(url=label_studio.url, project=title)
        projects = run_projects(client, settings)
        tasks = [task for part in projects for task in client.tasks(part.id, fields="all")]
        found = verify(rows, tasks, points_per_sign=4, run="test")
        assert found.differences == ()
        assert (found.images, found.masks) == (101, done.result["present"])
        assert found.absent == done.result["absent"]

        again = readloop("publish", run, "--json")
        assert again.code == 0, again.stderr
        seconds = again.result.pop("seconds")
        assert again.result == {
            "created": 0,
            "existing": 101,
            "replaced": 0,
            "retracted": 0,
            "failed": 0,
            "failures": [],
            "projects": [part.id for part in projects],
        }
        assert seconds > 0

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return label


def test_from_a_directory(check: Callable[..., None], camvid: Path, tmp_path: Path) -> None:
    check(str(camvid), open_store(str(tmp_path / "store"), S3Settings()))


def test_from_s3_into_s3(check: Callable[..., None], camvid: Path, s3: "S3Server") -> None:
    photographs = {f"val/{path.name}": path.read_bytes() for path in camvid.iterdir()}
    bucket = s3.make_bucket("camvid", photographs)
    settings = S3Settings(endpoint=s3.endpoint)
    check(
        f"{bucket}/val",
        open_store(f"{bucket}/runs/street", settings),
        s3={"endpoint": s3.endpoint},
    )
