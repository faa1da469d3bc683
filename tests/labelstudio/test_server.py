"""Our own server: its data lasts, its folder has one owner, its errors show its log."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from labelstudio.client import LabelStudioClient
from labelstudio.environment import ready_environment
from labelstudio.interface import build
from labelstudio.publishing.pictures import Pictures
from labelstudio.server import LabelStudioServer
from pipeline.errors import LabelStudioError
from pipeline.storage.settings import S3Settings

pytestmark = pytest.mark.labelstudio


def client_of(server: LabelStudioServer) -> LabelStudioClient:
    return LabelStudioClient(server.url, SecretStr(server.token))


def test_a_later_start_finds_login_and_tasks_and_keeps_files_to_itself(
    label_studio_data: Callable[[], Path], image: Any
) -> None:
    data = label_studio_data()
    with LabelStudioServer(data, document_root=Path(image.folder).parent) as server:
        project = client_of(server).create_project("kept", build(["road"])).id
        client_of(server).import_tasks(project, [b'{"data": {"image": "x", "key": "k"}}'])
        pictures = Pictures(client_of(server), project, S3Settings())
        assert client_of(server).serves(pictures.addresses([image()])[image()])
        with pytest.raises(LabelStudioError, match="cannot show /etc/hosts: it serves folders"):
            pictures.addresses(["file:///etc/hosts"])
        with pytest.raises(LabelStudioError, match="another Label Studio server uses"):
            LabelStudioServer(data).start()
    with LabelStudioServer(data) as again:
        assert (again.token, again.password) == (server.token, server.password)
        assert client_of(again).find_tasks(project, ["k"]) == {"k": [1]}
        inside = Path(data, "below", "a.png").as_uri()
        Path(data, "below").mkdir()
        with pytest.raises(LabelStudioError, match="LOCAL_FILES_SERVING_ENABLED"):
            Pictures(client_of(again), project, S3Settings()).addresses([inside])


def test_the_login_is_the_owners_alone(label_studio_data: Callable[[], Path]) -> None:
    assert (label_studio_data() / "login.json").stat().st_mode & 0o777 == 0o600


@pytest.fixture
def broken(tmp_path: Path) -> LabelStudioServer:
    """A server that ends as soon as it is started."""
    program = tmp_path / "env" / "bin" / "label-studio"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho no database today\nexit 3\n")
    program.chmod(0o755)
    return LabelStudioServer(tmp_path / "data", environment=tmp_path / "env")


def test_a_server_that_ends_early_shows_its_log(broken: LabelStudioServer) -> None:
    with pytest.raises(LabelStudioError, match="no database today"):
        broken.start()
    broken.stop()


def test_a_login_whose_writing_was_cut_off_is_made_anew(
    broken: LabelStudioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def dying(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("labelstudio.server.json.dump", dying)
        with pytest.raises(Killed):
            broken.start()
    with pytest.raises(LabelStudioError, match="no database today"):
        broken.start()
    login = tmp_path / "data" / "login.json"
    assert json.loads(login.read_text())["token"] == broken.token
    assert login.stat().st_mode & 0o777 == 0o600
    assert not list(login.parent.glob("login.part"))


def test_the_server_ends_with_a_killed_process(tmp_path: Path) -> None:
    fake = tmp_path / "env" / "bin" / "label-studio"
    fake.parent.mkdir(parents=True)
    fake.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 600\n")
    fake.chmod(0o755)
    start = "import sys; from pathlib import Path; from labelstudio.server import *; "
    start += (
        "LabelStudioServer(Path(sys.argv[1], 'data'), environment=Path(sys.argv[1], 'env')).start()"
    )
    process = subprocess.Popen([sys.executable, "-c", start, str(tmp_path)])
    wait_for((tmp_path / "pid").exists)
    wait_for(lambda: (tmp_path / "pid").read_text().strip())
    process.kill()
    process.wait()
    wait_for(lambda: not Path("/proc", (tmp_path / "pid").read_text().strip()).exists())


def wait_for(true: Callable[[], object]) -> None:
    for _ in range(600):
        if true():
            return
        time.sleep(0.1)
    pytest.fail("waited for a minute")


def test_a_taken_port_is_named(label_studio: LabelStudioServer, tmp_path: Path) -> None:
    port = int(label_studio.url.rpartition(":")[2])
    with pytest.raises(LabelStudioError, match=f"port {port}"):
        LabelStudioServer(tmp_path / "data", port=port).start()


def test_the_login_is_not_in_the_command(label_studio: LabelStudioServer) -> None:
    commands = [
        path.read_bytes()
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if path.stat().st_uid == os.getuid()
    ]
    assert any(b"label-studio" in command for command in commands)
    assert not any(label_studio.token.encode() in command for command in commands)


def test_without_uv_it_says_how(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("READLOOP_LABELSTUDIO_ENV", raising=False)
    monkeypatch.delenv("READLOOP_UV", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("labelstudio.environment.OWN_UV", tmp_path / "uv")
    with pytest.raises(LabelStudioError, match="run scripts/setup"):
        ready_environment(tmp_path / "env", print)
