"""Everything at work on bundled pictures: ``scripts/demo``.

A Label Studio server with a data folder of its own, a local Ray, a store of files and a bundled
checkpoint label the pictures of ``configs/demo``; Label Studio then shows them.
"""

import argparse
import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import yaml
from pydantic import SecretStr

from labelstudio.client import LabelStudioClient
from labelstudio.errors import TOKEN_VARIABLE
from labelstudio.projects import run_projects
from labelstudio.publishing.verify import Verification, verify
from labelstudio.server import LabelStudioServer
from pipeline.config import load_run_file
from pipeline.errors import ExitCode, ReadloopError
from pipeline.label import LabelRun
from pipeline.progress import Progress

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = REPOSITORY / ".demo"
STATE = FOLDER / "state.json"
SETTINGS = REPOSITORY / "configs" / "demo" / "run.yaml"


def main() -> int:
    """Run the demo; the exit code is not 0 if Label Studio and the table differ."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Label bundled pictures.")
    parser.add_argument(
        "--exit", action="store_true", help="check, print one line of JSON, and end"
    )
    leave = parser.parse_args().exit
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.chdir(REPOSITORY)
    FOLDER.mkdir(exist_ok=True)
    STATE.unlink(missing_ok=True)
    try:
        return _demo(leave=leave)
    except ReadloopError as error:
        _say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return ExitCode.STOPPED


def _demo(*, leave: bool) -> int:
    began = time.monotonic()
    _say("starting Label Studio")
    server = LabelStudioServer(
        FOLDER / "labelstudio", document_root=REPOSITORY / "configs", progress=_say
    )
    with server:
        path = _write_run_file(server.url)
        os.environ[TOKEN_VARIABLE] = server.token
        run = load_run_file(path)
        labeling = LabelRun(run, None, threading.Event(), Progress())
        summary = labeling.label()
        _say(summary.to_text(run.store, labeling.failures()))
        found, project = _verify(labeling)
        _write_state(server, project, path)
        _say(f"done in {time.monotonic() - began:.0f} s")
        if not leave:
            _serve(server, project)
            return ExitCode.DONE
        for difference in found.differences:
            _say(f"differs: {difference}")
        counts = asdict(found)
        del counts["differences"]
        print(json.dumps(counts))  # noqa: T201
        return summary.exit_code or int(bool(found.differences))


def _write_run_file(url: str) -> Path:
    """Write the demo's run file with the server's address, and return its place."""
    settings = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    settings["labelstudio"]["url"] = url
    path = FOLDER / "run.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return path


def _verify(labeling: LabelRun) -> tuple[Verification, int]:
    """Read the projects back; return what was found and the first one's number."""
    settings = labeling.run.labelstudio
    assert settings is not None
    client = LabelStudioClient(settings.url, SecretStr(os.environ[TOKEN_VARIABLE]))
    projects = run_projects(client, settings)
    images = labeling.tables.read_by_image(labeling.plan.keys)
    predictions = [prediction for image in images for prediction in image]
    tasks = [task for part in projects for task in client.tasks(part.id, fields="all")]
    name = labeling.run.name
    return verify(predictions, tasks, settings.points_per_sign, name), projects[0].id


def _write_state(server: LabelStudioServer, project: int, run: Path) -> None:
    """Write ``state.json``, readable by its owner only: it holds the login."""
    state = {
        "url": server.url,
        "user": server.user,
        "password": server.password,
        "token": server.token,
        "project": project,
        "run": str(run),
    }
    partial = STATE.with_suffix(".partial")
    partial.touch(mode=0o600)
    partial.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    partial.replace(STATE)


def _serve(server: LabelStudioServer, project: int) -> None:
    """Keep the server up until Ctrl-C."""
    _say(
        f"open {server.url}/projects/{project}\n"
        f"  log in as {server.user} with the password {server.password}\n"
        "  Ctrl-C ends the server; what was labeled stays in .demo"
    )
    with suppress(KeyboardInterrupt):
        signal.pause()


def _say(text: str) -> None:
    print(f"demo: {text}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
