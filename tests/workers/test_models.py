"""Models from a folder, from S3, and from nowhere."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.cli import run
from pipeline.errors import ModelUnusableError
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import open_store
from workers.inspected import inspect_model
from workers.models import plan_model
from workers.settings import PoolSettings

if TYPE_CHECKING:
    from tests.conftest import S3Server

S3 = S3Settings()


@pytest.fixture
def tiny(repository: Path) -> Path:
    return repository / "configs" / "models" / "tiny"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "readloop" / "models"


def test_a_folder_is_named_absolutely(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny.parent)
    assert plan_model("tiny", S3, "float32").source == str(tiny)


def test_precision_changes_the_settings_and_not_the_version(tiny: Path) -> None:
    exact, half = (plan_model(str(tiny), S3, p) for p in ("float32", "bfloat16"))
    assert exact.version == half.version
    assert exact.settings_json != half.settings_json


def test_a_model_in_s3_is_fetched_once_and_is_the_same_as_in_a_folder(
    tiny: Path, s3: "S3Server", cache: Path
) -> None:
    files = [path for path in tiny.rglob("*") if path.is_file()]
    s3.make_bucket("weights", {f"m/{path.relative_to(tiny)}": path.read_bytes() for path in files})
    settings = S3Settings(endpoint=s3.endpoint)
    remote = plan_model("s3://weights/m", settings, "float32")
    assert remote.version == plan_model(str(tiny), S3, "float32").version
    (folder,) = cache.iterdir()
    written = (folder / "config.json").stat().st_mtime_ns
    assert plan_model("s3://weights/m", settings, "float32") == remote
    assert [path.stat().st_mtime_ns for path in cache.glob("*/config.json")] == [written]


def test_a_model_in_s3_is_inspected_and_a_broken_one_named(
    tiny: Path,
    s3: "S3Server",
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    monkeypatch.setattr("workers.models.PIECE_BYTES", 1_000_000)
    files = {str(p.relative_to(tiny)): p.read_bytes() for p in tiny.rglob("*") if p.is_file()}
    s3.make_bucket("inspected", {f"whole/{name}": content for name, content in files.items()})
    assert run(["models", "inspect", "s3://inspected/whole", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["source"], told["family"], told["ok"]) == ("s3://inspected/whole", "read", True)
    assert told["parameters"] == inspect_model(str(tiny))[1].to_json()["parameters"]
    cut = {**files, "model.safetensors": files["model.safetensors"][:-1000]}
    s3.make_bucket("truncated", cut)
    assert run(["models", "inspect", "s3://truncated"]) == 1
    assert "model.safetensors: cannot be read" in capsys.readouterr().err


def test_what_a_version_stands_for_is_recorded_once(tiny: Path, tmp_path: Path) -> None:
    planned = plan_model(str(tiny), S3, "bfloat16")
    store = open_store(str(tmp_path / "store"), S3)
    planned.record(store)
    planned.record(store)
    (file,) = (tmp_path / "store" / "model_sources").iterdir()
    told = json.loads(file.read_text())
    assert (told["model_version"], told["source"]) == (planned.version, str(tiny))
    assert told["settings"]["precision"] == "bfloat16"


def test_several_gpus_a_replica_share_one_model(tiny: Path) -> None:
    planned = plan_model(str(tiny), S3, "float32")
    devices = [planned.loader(S3, PoolSettings(gpus=gpus)).device for gpus in (0, 0.5, 1, 2)]
    assert devices == ["cpu", "cuda", "cuda", "auto"]


def test_an_empty_prefix_is_named(s3: "S3Server") -> None:
    s3.make_bucket("nothing")
    with pytest.raises(ModelUnusableError, match="s3://nothing/m: there is nothing"):
        plan_model("s3://nothing/m", S3Settings(endpoint=s3.endpoint), "float32")


def test_a_folder_that_does_not_exist_says_what_can_be_given() -> None:
    with pytest.raises(ModelUnusableError, match=r"no/such/folder: there is no such folder.*hub"):
        plan_model("no/such/folder", S3, "float32")


def test_a_hub_id_that_cannot_be_had_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelUnusableError, match="nobody/nothing@v1: neither a folder here, nor"):
        plan_model("nobody/nothing@v1", S3, "float32")


def test_an_incomplete_folder_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    with pytest.raises(ModelUnusableError, match=r"config\.json"):
        plan_model(str(tmp_path / "m"), S3, "float32")
