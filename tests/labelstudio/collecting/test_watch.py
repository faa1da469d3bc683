"""``readloop collect`` as a process: one poll, watching, webhooks of a real server, and kills."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from labelstudio.collecting.receiver import SECRET_HEADER, SECRET_VARIABLE
from pipeline.records import Prediction
from pipeline.storage.corrections import CorrectionTable

pytestmark = pytest.mark.labelstudio

Make = Callable[..., Prediction]
READLOOP = Path(sys.executable).with_name("readloop")
SECRET = "hush-hush-0123456789"
WAIT_SECONDS = 90


@dataclass
class Command:
    """Runs ``readloop collect`` on an office's run file."""

    office: Any
    folder: Path
    started: list["subprocess.Popen[str]"] = field(default_factory=list)

    def start(self, *options: str, secret: str = SECRET) -> "subprocess.Popen[str]":
        """Start it; its output goes to files."""
        run = {
            "name": "street",
            "store": str(self.office.street.folder),
            "source": {"images": str(self.folder), "queries": [{"text": "the road"}]},
            "model": "configs/models/tiny",
            "labelstudio": self.office.street.settings.model_dump(exclude_unset=True),
        }
        path = self.folder / "run.yaml"
        path.write_text(yaml.safe_dump(run), encoding="utf-8")
        environment = {
            **os.environ,
            "LABEL_STUDIO_API_KEY": self.office.street.token.get_secret_value(),
            SECRET_VARIABLE: secret,
        }
        with (self.folder / "out").open("w") as out, (self.folder / "err").open("w") as err:
            process = subprocess.Popen(
                [READLOOP, "collect", str(path), *options],
                env=environment,
                stdout=out,
                stderr=err,
                text=True,
            )
        self.started.append(process)
        return process

    def run(self, *options: str, secret: str = SECRET) -> int:
        """Run it to its end; return its exit code."""
        return self.start(*options, secret=secret).wait(WAIT_SECONDS)

    @property
    def out(self) -> str:
        """Everything on its standard output."""
        return (self.folder / "out").read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        """Everything on its standard error."""
        return (self.folder / "err").read_text(encoding="utf-8")

    @property
    def hook(self) -> str:
        """The address that it says it receives webhooks at."""
        return re.findall(r"webhooks are received at (\S+)", self.err)[0]

    def wait_for(self, true: Callable[[], object]) -> None:
        """Wait until something holds."""
        end = time.monotonic() + WAIT_SECONDS
        while not true():
            assert time.monotonic() < end, self.err
            time.sleep(0.2)


@pytest.fixture
def command(office: Any, tmp_path: Path) -> Iterator[Command]:
    made = Command(office, tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.wait()
    marks = "".join(path.read_text() for path in tmp_path.glob("store/collected/*"))
    for text in (made.out, made.err, marks, repr(list(office.rows()))):
        assert SECRET not in text
        assert office.street.token.get_secret_value() not in text


@pytest.fixture
def images(prediction: Make) -> list[Sequence[Prediction]]:
    return [[prediction("road", name=f"{i}.png")] for i in range(4)]


def known(office: Any) -> int:
    return len(office.rows())


def end(process: "subprocess.Popen[str]") -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(WAIT_SECONDS)


def listening(process: int) -> list[str]:
    """Return the addresses that a process listens on."""
    connections = psutil.Process(process).net_connections()
    return [found.laddr.ip for found in connections if found.status == psutil.CONN_LISTEN]


def test_one_poll_prints_one_object(command: Command, images: Any) -> None:
    command.office.publish(images)
    first, second, *_ = command.office.tasks()
    command.office.submit(first)
    command.office.submit(second, was_cancelled=True)
    assert command.run("--json") == 0
    found = json.loads(command.out)
    assert found.pop("seconds") > 0
    assert found == {
        "new": 2,
        "updated": 0,
        "deleted": 0,
        "accepted": 1,
        "edited": 0,
        "redrawn": 0,
        "absent": 0,
        "skipped": 1,
        "agreement": {"queries": 0, "pairs": 0, "iou": None, "presence": None},
        "failures": [],
    }
    assert command.run() == 0
    assert "0 new, 0 updated, 0 deleted" in command.out


def test_what_cannot_be_read_ends_with_2(command: Command, images: Any) -> None:
    command.office.publish(images)
    first = command.office.tasks()[0]
    mask = dict(first["predictions"][0]["result"][0])
    number = command.office.submit(first, result=[{**mask, "original_width": 5}])
    assert command.run("--json") == 2
    assert f"annotation {number} " in json.loads(command.out)["failures"][0]


def test_nothing_published_is_said(command: Command) -> None:
    assert command.run() == 1
    assert "publish to it first" in command.err


@pytest.mark.parametrize(
    ("options", "secret", "said"),
    [
        (["--listen", "9090"], SECRET, "only with --watch"),
        (["--watch", "--hook-url", "http://x/"], SECRET, "--listen"),
        (["--watch", "--listen", "somewhere"], SECRET, "HOST:"),
        (["--watch", "--listen", "0"], "", SECRET_VARIABLE),
    ],
)
def test_bad_options_are_named(
    command: Command, options: list[str], secret: str, said: str
) -> None:
    assert command.run(*options, secret=secret) == 1
    assert said in command.err


def test_a_webhook_of_the_server_brings_the_work_at_once(command: Command, images: Any) -> None:
    command.office.publish(images)
    project = command.office.street.project().id
    process = command.start("--watch", "--every", "600", "--listen", "0", "--json")
    hooks = lambda: command.office.call("GET", f"/api/webhooks/?project={project}")  # noqa: E731
    try:
        command.wait_for(hooks)
        assert [hook["headers"] for hook in hooks()] == [{SECRET_HEADER: SECRET}]
        task = command.office.tasks()[0]
        number = command.office.submit(task)
        command.wait_for(lambda: known(command.office) == 1)
        command.office.change(number, was_cancelled=True)
        command.wait_for(lambda: command.office.verdicts() == ["skipped"])
        command.office.delete(number)
        command.wait_for(lambda: command.office.verdicts() == ["deleted"])
    finally:
        assert end(process) == 0
    found = json.loads(command.out)
    assert (found["new"], found["updated"], found["deleted"]) == (1, 1, 1)
    assert hooks() == []


def test_it_listens_on_loopback_unless_told_otherwise(command: Command, images: Any) -> None:
    command.office.publish(images)
    process = command.start("--watch", "--listen", "0")
    try:
        command.wait_for(lambda: "received at" in command.err)
        assert command.hook.startswith("http://127.0.0.1:")
        ours = listening(process.pid)
        assert ours
        assert set(ours) == {"127.0.0.1"}
    finally:
        assert end(process) == 0


def test_a_webhook_that_the_server_refuses_leaves_the_polling(
    command: Command, images: Any
) -> None:
    command.office.publish(images)
    address = "http://not a place/"
    process = command.start("--watch", "--every", "1", "--listen", "0", "--hook-url", address)
    try:
        command.wait_for(lambda: "no webhook" in command.err)
        command.office.submit(command.office.tasks()[0])
        command.wait_for(lambda: known(command.office) == 1)
    finally:
        assert end(process) == 0


def test_a_storm_of_webhooks_changes_nothing(command: Command, images: Any) -> None:
    command.office.publish(images)
    process = command.start("--watch", "--every", "600", "--listen", "0")
    try:
        command.wait_for(lambda: "received at" in command.err)
        headers = {SECRET_HEADER: SECRET}
        client = httpx.Client(trust_env=False, timeout=30, headers=headers)

        def storm(_: int) -> int:
            return client.post(command.hook, json={"action": "ANNOTATION_CREATED"}).status_code

        with ThreadPoolExecutor(8) as callers:
            answers = callers.map(storm, range(300))
            for task in command.office.tasks():
                command.office.submit(task)
            statuses = Counter(answers)
        command.wait_for(lambda: known(command.office) == 4)
    finally:
        assert end(process) == 0
    assert statuses.keys() <= {204, 503}
    assert command.office.verdicts() == ["accepted"] * 4
    assert "4 new, 0 updated, 0 deleted" in command.out


def test_killed_while_watching_it_goes_on_where_it_was(command: Command, images: Any) -> None:
    command.office.publish(images)
    tasks = command.office.tasks()
    for task in tasks:
        process = command.start("--watch", "--every", "1", "--listen", "0")
        command.wait_for(lambda: "received at" in command.err)
        command.office.submit(task)
        time.sleep(0.3 * tasks.index(task))
        process.kill()
        process.wait()
    assert command.run("--json") == 0
    assert known(command.office) == 4
    rows = command.office.rows()
    assert len({row.id for row in rows}) == 4
    table = CorrectionTable(command.office.store)
    assert table.version <= 4


def test_no_address_that_a_task_or_annotation_names_is_asked(command: Command, images: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.1)
        address = f"http://127.0.0.1:{trap.getsockname()[1]}/"
        command.office.publish(images)
        first, second, *_ = command.office.tasks()
        data = {**first["data"], "image": address + "image", "texts": {"road": address}}
        command.office.call("PATCH", f"/api/tasks/{first['id']}/", {"data": data})
        regions = [dict(region) for region in first["predictions"][0]["result"]]
        for region in regions:
            region["meta"] = {"text": [address + "meta"]}
            region["value"] = {**region["value"], "url": address + "value"}
        command.office.submit(first, result=regions)
        mask = regions[0]
        broken = {**mask, "value": {"rle": address, "format": "rle", "brushlabels": ["road"]}}
        command.office.submit(second, result=[broken])
        assert command.run("--json") == 2
        with pytest.raises(TimeoutError):
            trap.accept()
    assert json.loads(command.out)["accepted"] == 1
