"""The command line: help, usage, exit codes and what goes to which stream."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import run
from pipeline.cli.terminal import chatter_on_stderr, stop_on_signals

RUN = """
name: street
store: {store}
source:
  images: photos
  queries: [{{text: the road}}]
model: {model}
{more}
"""


@pytest.fixture
def run_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "RunFileMaker":
    monkeypatch.chdir(tmp_path)
    return RunFileMaker(tmp_path)


class RunFileMaker:
    """Writes run files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, more: str = "", model: str = "no/such/model") -> str:
        """Write the run file and return its path."""
        path = self._folder / "run.yaml"
        path.write_text(RUN.format(store=self._folder / "store", model=model, more=more))
        return str(path)


def test_help_names_every_command_and_loads_neither_torch_nor_ray() -> None:
    code = (
        "import sys; from pipeline.cli import run; code = run(['--help']); "
        "assert not {'torch', 'ray', 'transformers', 'deltalake'} & set(sys.modules); "
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in (
        "label",
        "publish",
        "retract",
        "predict",
        "conformance",
        "scenes",
        "export",
        "import",
    ):
        assert command in done.stdout


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip()[0].isdigit()


@pytest.mark.parametrize("arguments", [["label"], ["lable"], ["label", "x", "--limit", "0"], []])
def test_a_wrong_command_line_ends_with_1(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 1
    captured = capsys.readouterr()
    assert "Usage" in captured.err + captured.out


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("labelstudoi: {}", "labelstudoi: unknown key"),
        ("pool: {replicas: many}", "pool.replicas"),
        ("limits: {image_pixels: 0}", "limits.image_pixels"),
    ],
)
def test_a_wrong_key_or_type_ends_with_1_and_is_named(
    run_file: RunFileMaker, capfd: pytest.CaptureFixture[str], more: str, told: str
) -> None:
    assert run(["label", run_file(more)]) == 1
    captured = capfd.readouterr()
    assert told in captured.err
    assert not captured.out


def test_a_missing_model_ends_with_1(
    run_file: RunFileMaker, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["label", run_file()]) == 1
    assert "model no/such/model: there is no such folder" in capfd.readouterr().err


def test_publishing_needs_a_project_in_the_run_file(
    run_file: RunFileMaker, repository: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = str(repository / "configs" / "models" / "tiny")
    assert run(["publish", run_file(model=model)]) == 1
    assert "no 'labelstudio' part" in capfd.readouterr().err


def test_retracting_needs_a_project_in_the_run_file(
    run_file: RunFileMaker, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["retract", run_file(), "tiny@1"]) == 1
    assert "no 'labelstudio' part" in capfd.readouterr().err


def test_a_label_studio_that_is_down_ends_with_1_before_any_work(
    run_file: RunFileMaker, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "secret-token")
    more = "labelstudio: {url: 'http://127.0.0.1:9', project: street}"
    assert run(["label", run_file(more)]) == 1
    told = capfd.readouterr().err
    assert "127.0.0.1:9" in told
    assert "secret-token" not in told


def test_scenes_are_written_with_a_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["scenes", "--seed", "3", "--count", "2", "--out", str(tmp_path / "s")]) == 0
    assert Path(capsys.readouterr().out.strip()).name == "manifest.csv"
    assert len(list((tmp_path / "s" / "images").iterdir())) == 2
    assert run(["scenes", "--difficulty", "odd", "--out", str(tmp_path / "t")]) == 1
    assert "choose one of easy, hard" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert run(["scenes", "--count", "1", "--out", str(tmp_path / "file")]) == 1
    assert "file/images: cannot be written (Not a directory)" in capsys.readouterr().err


def test_what_libraries_print_goes_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    with chatter_on_stderr():
        sys.stdout.write("python\n")
        os.write(1, b"native\n")
    sys.stdout.write(json.dumps({"a": 1}))
    captured = capfd.readouterr()
    assert captured.out == '{"a": 1}'
    assert {"python", "native"} <= set(captured.err.split())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_to_stop_and_handlers_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_on_signals() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        assert stop.is_set()
        assert signal.getsignal(number) == signal.SIG_DFL
    assert signal.getsignal(number) == before
