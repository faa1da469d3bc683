"""Checkpoints from a hub: the real client against a local server, its cache, and no network."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from workers.read.checkpoint import load_model
from workers.read.identity import fingerprint

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "somebody/tiny-read"
COMMAND = "from pipeline.cli import main; main()"


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's protocol that a download uses: one repository, one commit."""

    folder: ClassVar[Path]
    served: ClassVar[list[str]] = []
    bytes_of: ClassVar[Counter[str]] = Counter()

    def do_HEAD(self) -> None:  # noqa: D102
        self._answer(body=False)

    def do_GET(self) -> None:  # noqa: D102
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, *, body: bool) -> None:
        path = self.path.split("?")[0]
        files = sorted(file for file in self.folder.rglob("*") if file.is_file())
        names = [str(file.relative_to(self.folder)) for file in files]
        if path.startswith(f"/api/models/{NAME}/tree/"):
            rows = [
                {"type": "file", "path": name, "size": file.stat().st_size, "oid": _etag(file)}
                for name, file in zip(names, files, strict=True)
            ]
            self._send(json.dumps(rows).encode(), body)
        elif path in (f"/api/models/{NAME}/revision/{rev}" for rev in ("main", "v1", COMMIT)):
            siblings = [{"rfilename": name} for name in names]
            told: dict[str, Any] = {"id": NAME, "sha": COMMIT, "siblings": siblings}
            self._send(json.dumps(told).encode(), body)
        elif path.startswith(f"/{NAME}/resolve/{COMMIT}/") and path.split(COMMIT + "/")[1] in names:
            name = path.split(COMMIT + "/")[1]
            content = (self.folder / name).read_bytes()
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if asked:
                content = content[int(asked[1]) : int(asked[2]) + 1]
            if body:
                self.served.append(name)
                self.bytes_of[name] += len(content)
            self._send(content, body, _etag(self.folder / name), 206 if asked else 200)
        else:
            self.send_error(404)

    def _send(self, content: bytes, body: bool, etag: str = "none", status: int = 200) -> None:
        self.send_response(status)
        for key, value in (
            ("Content-Length", str(len(content))),
            ("Content-Type", "application/json"),
            ("ETag", f'"{etag}"'),
            ("X-Repo-Commit", COMMIT),
        ):
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


def _etag(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()[:40]


@pytest.fixture
def hub(tiny_folder: Path, tmp_path: Path) -> Iterator[str]:
    """A running hub that holds the random checkpoint, and a file that a training left."""
    folder = tmp_path / "repository"
    for file in tiny_folder.rglob("*"):
        if file.is_file():
            copy = folder / file.relative_to(tiny_folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    (folder / "optimizer.bin").write_bytes(b"not wanted")
    Hub.folder = folder
    Hub.served.clear()
    Hub.bytes_of.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def inspect(source: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``readloop models inspect SOURCE --json`` with a cache of its own."""
    return python(COMMAND, ["models", "inspect", source, "--json"], home, **environment)


def python(
    code: str, arguments: list[str], home: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, with the hub's cache in ``home``."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**inherited, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", **environment},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def test_a_hub_id_is_pinned_and_described_by_its_headers(hub: str, tmp_path: Path) -> None:
    found = inspect(f"{NAME}@v1", tmp_path / "home", HF_ENDPOINT=hub)
    assert found.returncode == 0, found.stderr
    told = json.loads(found.stdout)
    assert (told["source"], told["ok"]) == (f"{NAME}@{COMMIT}", True)
    assert told["vision_tower"] == f"{NAME}@{COMMIT}/clip"
    assert told["keys"] == told["expected_keys"]
    assert "optimizer.bin" not in Hub.served
    for weights in ("model.safetensors", "clip/model.safetensors"):
        assert 0 < Hub.bytes_of[weights] < (Hub.folder / weights).stat().st_size / 5
    offline = inspect(told["source"], tmp_path / "home", HF_HUB_OFFLINE="1")
    assert offline.returncode == 1
    assert "nor in the hub's cache" in offline.stderr


def test_what_was_fetched_is_described_without_the_hub(hub: str, tmp_path: Path) -> None:
    online = json.loads(inspect(NAME, tmp_path / "home", HF_ENDPOINT=hub).stdout)
    fetch = "from workers.models import local_folder; from pipeline.storage.settings import *; "
    subprocess.run(
        [sys.executable, "-c", f"{fetch} local_folder('{NAME}@v1', S3Settings())"],
        env={**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub},
        timeout=400,
        check=True,
    )
    Hub.bytes_of.clear()
    again = inspect(online["source"], tmp_path / "home", HF_ENDPOINT=hub)
    assert json.loads(again.stdout) == online
    assert not Hub.bytes_of
    offline = inspect(online["source"], tmp_path / "home", HF_HUB_OFFLINE="1")
    assert json.loads(offline.stdout) == online


@pytest.mark.parametrize(
    "environment", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}]
)
def test_without_a_network_the_error_says_so(tmp_path: Path, environment: dict[str, str]) -> None:
    failed = inspect(NAME, tmp_path / "home", **environment)
    assert failed.returncode == 1
    assert f"model {NAME}: neither a folder here, nor in the hub's cache" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_an_unknown_revision_is_named(hub: str, tmp_path: Path) -> None:
    failed = inspect(f"{NAME}@v2", tmp_path / "home", HF_ENDPOINT=hub)
    assert failed.returncode == 1
    assert f"model {NAME}@v2" in failed.stderr


PLAN = """
import pickle, sys
from pathlib import Path
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import open_store
from workers.models import plan_model

planned = plan_model(sys.argv[1], S3Settings(), "float32")
planned.record(open_store(sys.argv[2], S3Settings()))
Path(sys.argv[3]).write_bytes(pickle.dumps(planned))
"""
KEEP = """
import sys
from pipeline.candidates import current_version
from pipeline.config import RunFile
from pipeline.progress import Progress
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import open_store

content = {"name": "a", "store": sys.argv[2], "source": {"images": "b"}, "model": sys.argv[1]}
store = open_store(sys.argv[2], S3Settings())
print(current_version(RunFile.model_validate(content), store, Progress()).version)
"""
LOAD = """
import pickle, sys
from pathlib import Path
from pipeline.storage.settings import S3Settings
from workers.settings import PoolSettings

planned = pickle.loads(Path(sys.argv[3]).read_bytes())
engine = planned.loader(S3Settings(), PoolSettings())()
assert engine.version == planned.version
"""


def test_a_tower_from_the_hub_is_pinned_and_recorded(
    hub: str, tiny_folder: Path, tmp_path: Path
) -> None:
    Hub.folder = Hub.folder / "clip"
    model, store, home = (tmp_path / name for name in ("model", "store", "home"))
    shutil.copytree(tiny_folder, model, ignore=shutil.ignore_patterns("clip"))
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"vision_tower": NAME}))
    (model / "readloop.json").write_text("{}")
    arguments = [str(model), str(store), str(tmp_path / "planned")]
    assert python(PLAN, arguments, home, HF_ENDPOINT=hub).returncode == 0
    (record,) = (store / "model_sources").iterdir()
    assert json.loads(record.read_text())["vision_tower"] == f"{NAME}@{COMMIT}"
    for refs in home.rglob("refs"):
        shutil.rmtree(refs)  # what main was is not known any more
    loaded = python(LOAD, arguments, home, HF_HUB_OFFLINE="1")
    assert loaded.returncode == 0, loaded.stderr
    again = python(PLAN, arguments, home, HF_HUB_OFFLINE="1")
    assert "vision tower 'somebody/tiny-read' is neither a folder nor" in again.stderr
    kept = python(KEEP, arguments, home, HF_ENDPOINT=hub)
    assert kept.returncode == 0, kept.stderr
    version = kept.stdout.strip()
    shutil.rmtree(home)
    assert fingerprint(store / "models" / version) == version
    assert load_model(store / "models" / version).config == load_model(tiny_folder).config
