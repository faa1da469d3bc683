"""The ``readloop`` command as a user runs it, and runs to give it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Browser, Page, sync_playwright

from labelstudio.server import LabelStudioServer

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PAGE_SECONDS = 120
READLOOP = Path(sys.executable).with_name("readloop")


@dataclass(frozen=True)
class Done:
    """How a command ended; ``result`` is its JSON, None if it printed none."""

    code: int
    result: dict[str, Any] | None
    stderr: str


class Readloop:
    """Runs the command in a folder of its own, against the Ray nodes at an address or its own."""

    def __init__(self, folder: Path, tiny: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._tiny = tiny

    def write_run(self, images: Path | str, queries: list[str], **changes: Any) -> Path:
        """Write a run file with the tiny model and a store in the folder; return its path."""
        run = {
            "name": "test",
            "store": str(self.folder / "store"),
            "source": {
                "images": str(images),
                "queries": [{"label": query, "text": query} for query in queries],
            },
            "model": str(self._tiny),
            "pool": {"replicas": 1, "images_per_batch": 2},
            "review": {"blank_share": 0},
        }
        path = self.folder / "run.yaml"
        path.write_text(yaml.safe_dump({**run, **changes}), encoding="utf-8")
        return path

    def start(self, *arguments: str | Path) -> "subprocess.Popen[str]":
        """Start a command."""
        return subprocess.Popen(
            [READLOOP, *map(str, arguments)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str | Path) -> Done:
        """Run a command to its end; everything on standard output must be one JSON object."""
        process = self.start(*arguments)
        stdout, stderr = process.communicate(timeout=1200)
        return Done(process.returncode, json.loads(stdout) if stdout else None, stderr)


@pytest.fixture
def readloop(tmp_path: Path, repository: Path) -> Readloop:
    """The command with a Ray of its own."""
    return Readloop(tmp_path, repository / "configs" / "models" / "tiny")


@pytest.fixture
def readloop_on_nodes(readloop: Readloop, ray_nodes: str) -> Readloop:
    """The command on the suite's Ray nodes, which saves it the start of a Ray."""
    readloop.environment = {**readloop.environment, "RAY_ADDRESS": ray_nodes}
    return readloop


@pytest.fixture
def camvid(shared: Path) -> Path:
    """The 101 street photographs."""
    folder = shared / "data" / "camvid" / "val" / "images"
    if not folder.is_dir():
        pytest.skip(f"no photographs at {folder}")
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium; tests skip without one, but not in continuous integration."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        reason = "needs Chromium (Debian and Ubuntu: apt-get install chromium)"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def log_in(browser: Browser) -> Iterator[Callable[[str, str, str], Page]]:
    """Open a page that is logged in at an address as a user with a password."""
    pages = []

    def open_page(url: str, user: str, password: str) -> Page:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        pages.append(page)
        page.set_default_timeout(PAGE_SECONDS * 1000)
        page.goto(f"{url}/user/login/")
        page.fill("input[name=email]", user)
        page.fill("input[name=password]", password)
        page.click("button[type=submit]")
        page.wait_for_url(lambda address: "login" not in address)
        return page

    yield open_page
    for page in pages:
        page.context.close()


@pytest.fixture
def page(log_in: Callable[[str, str, str], Page], label_studio: LabelStudioServer) -> Page:
    """A page that is logged in at the suite's server."""
    return log_in(label_studio.url, label_studio.user, label_studio.password)
