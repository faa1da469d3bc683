"""``readloop models`` on a store's versions, as a user calls it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli import run
from pipeline.errors import LabelStudioError
from pipeline.records import Prediction
from pipeline.registry.registry import Registry
from pipeline.storage.shards import write_shard
from pipeline.storage.store import Store
from pipeline.storage.tables import PredictionTables

Called = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def models(
    store: Store, tmp_path: Path, register: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> Called:
    """Call a command on a store with three versions, the second of which is current."""
    registry = Registry(store)
    register(registry, "base")
    measured = {"holdout": {"iou": 0.5}, "dialogue_loss": 2.0}
    settings = {"train": {"rate": 0.1}}
    register(registry, "good", 1, parent="base", settings=settings, source="", metrics=measured)
    refused = {"promoted": False, "reasons": ["gain 0.001 [-0.01, 0.01]"]}
    worse = {**measured, "holdout": {"iou": 0.4}}
    settings = {"train": {"rate": 0.2}}
    register(registry, "bad", 2, parent="good", settings=settings, metrics=worse, decision=refused)
    registry.move("good", "promote", registry.move("base", "base", None))
    file = tmp_path / "run.yaml"
    source = {"images": str(tmp_path), "queries": [{"text": "the road"}]}
    content = {"name": "r", "store": store.uri, "source": source, "model": "registry"}
    file.write_text(yaml.safe_dump(content))

    def call(command: str, *arguments: str) -> tuple[int, Any, str]:
        code = run(["models", command, str(file), *arguments, "--json"])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else None, said.err

    return call


def test_list_and_show(models: Called) -> None:
    code, listed, _ = models("list")
    assert (code, listed["current"]) == (0, "good")
    rows = [(row["version"], row["passed"], row["current"]) for row in listed["versions"]]
    assert rows == [("base", None, False), ("good", None, True), ("bad", False, False)]
    _, shown, _ = models("show", "good")
    assert shown["settings"] == {"train": {"rate": 0.1}}
    assert [move["kind"] for move in shown["moves"]] == ["promote"]
    code, _, said = models("show", "ugly")
    assert code == 1
    assert "no model version 'ugly'" in said


def test_diff(models: Called) -> None:
    _, found, _ = models("diff", "good", "bad")
    assert found["settings"] == {"train.rate": [0.1, 0.2]}
    assert found["metrics"] == {"holdout.iou": [0.5, 0.4]}
    assert found["lineage"] == {"parent": ["base", "good"], "source": ["", "somewhere"]}


def test_what_the_gate_refused_needs_force(models: Called) -> None:
    code, _, said = models("promote", "bad")
    assert code == 1
    assert "gain 0.001" in said
    assert "--force" in said
    code, entry, _ = models("promote", "bad", "--force")
    assert (code, entry["version"], entry["previous"]) == (0, "bad", "good")


def _show_in_label_studio(run_file: Path) -> None:
    """Let a run be shown by a server at a port where there is none."""
    content = yaml.safe_load(run_file.read_text())
    content["labelstudio"] = {"url": "http://127.0.0.1:1", "project": "street"}
    run_file.write_text(yaml.safe_dump(content))


def test_rollback_is_one_command_and_says_how_to_retract(models: Called, tmp_path: Path) -> None:
    run_file = tmp_path / "run.yaml"
    _show_in_label_studio(run_file)
    _, entry, _ = models("rollback")
    assert (entry["version"], entry["kind"]) == ("base", "rollback")
    assert entry["retract"] == f"readloop retract {run_file} good"
    code, _, said = models("rollback")
    assert code == 1
    assert "first version" in said


def test_a_rollback_of_a_version_is_not_done_twice(models: Called) -> None:
    _, entry, _ = models("rollback", "good")
    assert (entry["version"], entry["kind"]) == ("base", "rollback")
    assert models("rollback", "good")[1] == entry
    code, _, said = models("rollback", "bad")
    assert code == 1
    assert "bad: is not current, base is" in said


def test_a_rollback_without_label_studio_names_no_command(models: Called) -> None:
    assert models("rollback")[1]["retract"] is None


def test_a_rollback_that_cannot_retract_moves_nothing(
    models: Called, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, said = models("rollback", "--retract")
    assert code == 1
    assert "no 'labelstudio' part" in said
    _show_in_label_studio(tmp_path / "run.yaml")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "t" * 40)
    code, _, said = models("rollback", "--retract")
    assert code == 1
    assert "127.0.0.1:1" in said
    assert _current(store) == "good"


def test_a_rollback_whose_server_goes_down_says_what_is_done(
    models: Called, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: object, **__: object) -> None:
        raise LabelStudioError("the server is down")

    run_file = tmp_path / "run.yaml"
    _show_in_label_studio(run_file)
    monkeypatch.setattr("labelstudio.token.checked_token", lambda _: None)
    monkeypatch.setattr("pipeline.cli.registry.take_back", down)
    code, _, said = models("rollback", "--retract")
    assert code == 1
    assert "the server is down" in said
    assert f"are still shown: readloop retract {run_file} good" in said
    assert _current(store) == "base"


def _current(store: Store) -> str:
    current = Registry(store).current()
    assert current
    return current.version


def test_prune_spares_what_a_prediction_refers_to(
    models: Called, store: Store, predict: Callable[[int], Prediction]
) -> None:
    _, found, _ = models("prune", "--keep", "0", "--dry-run")
    assert found == {"pruned": ["bad"], "dry_run": True}
    tables = PredictionTables(store)
    tables.commit([write_shard(store, [replace(predict(1), model_version="bad")])])
    assert models("prune", "--keep", "0")[1]["pruned"] == []
    Registry(store).move("bad", "promote", Registry(store).current())
    assert models("prune", "--keep", "0")[1]["pruned"] == ["base"]
    assert models("list")[1]["versions"][0]["pruned"]
