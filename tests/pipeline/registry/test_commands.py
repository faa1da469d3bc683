"""``readloop models`` on a store's versions, as a user calls it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli import run
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
    register(registry, "good", 1, parent="base", settings={"train": {"rate": 0.1}}, source="")
    refused = {"promoted": False, "reasons": ["gain 0.001 [-0.01, 0.01]"]}
    register(registry, "bad", 2, parent="good", settings={"train": {"rate": 0.2}}, decision=refused)
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
    assert found["lineage"] == {"parent": ["base", "good"], "source": ["", "somewhere"]}


def test_what_the_gate_refused_needs_force(models: Called) -> None:
    code, _, said = models("promote", "bad")
    assert code == 1
    assert "gain 0.001" in said
    assert "--force" in said
    code, entry, _ = models("promote", "bad", "--force")
    assert (code, entry["version"], entry["previous"]) == (0, "bad", "good")


def test_rollback_is_one_command_and_says_how_to_retract(models: Called, tmp_path: Path) -> None:
    _, entry, _ = models("rollback")
    assert (entry["version"], entry["kind"]) == ("base", "rollback")
    assert entry["retract"] == f"readloop retract {tmp_path / 'run.yaml'} good"
    code, _, said = models("rollback")
    assert code == 1
    assert "first version" in said


def test_a_rollback_that_cannot_retract_moves_nothing(models: Called, store: Store) -> None:
    code, _, said = models("rollback", "--retract")
    assert code == 1
    assert "no 'labelstudio' part" in said
    current = Registry(store).current()
    assert current
    assert current.version == "good"


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
