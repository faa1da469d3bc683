"""Versions, the chain of current ones under a race, rolling back, pruning."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.errors import ConfigError, StoppedError, StorageError
from pipeline.registry.registry import Registry
from pipeline.registry.resolve import model_source
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import Store, open_store
from tests.pipeline.registry.conftest import lineage

if TYPE_CHECKING:
    from tests.conftest import S3Server

Register = Callable[..., None]


def test_a_version_exists_once_its_lineage_does_and_never_changes(
    any_store: Store, register: Register, tmp_path: Path
) -> None:
    registry = Registry(any_store)
    assert (registry.lineages(), registry.current()) == ([], None)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")
    registry.upload(tmp_path / "m", "v0")
    assert not registry.exists("v0")
    with pytest.raises(ConfigError, match="no model version 'v0'"):
        registry.move("v0", "base", None)

    register(registry, "v1", parent="v0", settings={"rate": 0.5})
    assert registry.lineage("v1") == lineage("v1", parent="v0", settings={"rate": 0.5})
    assert not registry.record(lineage("v1", parent="other"))
    assert registry.lineage("v1").parent == "v0"


def test_of_two_that_promote_at_once_one_wins_and_the_other_is_told(
    any_store: Store, register: Register
) -> None:
    registry = Registry(any_store)
    versions = [f"v{number}" for number in range(8)]
    for number, version in enumerate(versions):
        register(registry, version, number)
    base = registry.move("v0", "base", None)

    def promote(version: str) -> str:
        try:
            return Registry(any_store).move(version, "promote", base).version
        except StoppedError as error:
            return str(error)

    with ThreadPoolExecutor(7) as pool:
        said = list(pool.map(promote, versions[1:]))
    current = registry.current()
    assert current
    winners = [text for text in said if text in versions]
    assert winners == [current.version]
    assert all(f"{current.version} became current" in text for text in said if text not in versions)
    assert [entry.number for entry in registry.chain()] == [1, 2]


def test_rolling_back_goes_step_by_step_to_the_first(store: Store, register: Register) -> None:
    registry = Registry(store)
    pointer = None
    for number, version in enumerate(("base", "a", "b")):
        register(registry, version, number)
        pointer = registry.move(version, "promote" if number else "base", pointer)
    assert pointer
    for expected in ("a", "base"):
        assert registry.before(pointer) == expected
        pointer = registry.move(expected, "rollback", pointer)
    with pytest.raises(ConfigError, match="first version"):
        registry.before(pointer)
    pointer = registry.move("b", "promote", pointer)
    assert registry.before(pointer) == "base"


def test_what_something_refers_to_is_never_pruned(any_store: Store, register: Register) -> None:
    registry = Registry(any_store)
    for number in range(7):
        register(registry, f"v{number}", number)
    first = registry.move("v1", "base", None)
    registry.move("v2", "promote", first)
    assert registry.prunable(2, {"v3"}) == ["v0", "v4"]
    registry.prune("v0")
    assert registry.prunable(2, {"v3"}) == ["v4"]
    assert registry.lineage("v0") == lineage("v0")
    assert list(any_store.list("models/v0")) == []
    assert len(list(any_store.list("models/v4"))) == 2
    with pytest.raises(ConfigError, match="pruned"):
        registry.move("v0", "promote", registry.current())


def test_weights_are_pruned_in_a_store_that_is_a_whole_bucket(
    s3: "S3Server", register: Register
) -> None:
    store = open_store(s3.make_bucket("whole-registry"), S3Settings(endpoint=s3.endpoint))
    registry = Registry(store)
    for number in range(2):
        register(registry, f"v{number}", number)
    registry.prune("v0")
    assert list(store.list("models/v0")) == []
    assert len(list(store.list("models/v1"))) == 2


def test_what_becomes_current_while_it_is_pruned_is_spared(
    store: Store, register: Register
) -> None:
    registry = Registry(store)
    for number in range(2):
        register(registry, f"v{number}", number)
    registry.move("v0", "promote", registry.move("v1", "base", None))
    registry.prune("v0")
    assert registry.pruned() == set()
    assert len(list(store.list("models/v0"))) == 2


def test_what_is_pruned_while_it_becomes_current_does_not(
    store: Store, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(store)
    for number in range(2):
        register(registry, f"v{number}", number)
    base = registry.move("v1", "base", None)

    def pruned_just_then(version: str) -> str:
        store.put_new(f"models/pruned/{version}.json", b"{}")
        return version

    monkeypatch.setattr(registry, "usable_weights", pruned_just_then)
    with pytest.raises(ConfigError, match="v0 are just being pruned"):
        registry.move("v0", "promote", base)
    current = registry.current()
    assert current
    assert (current.version, current.number) == ("v1", 3)
    with pytest.raises(ConfigError, match="first version"):
        registry.before(current)


def test_another_gate_may_judge_again(store: Store, register: Register) -> None:
    registry = Registry(store)
    refused = {"promoted": False, "reasons": ["2 groups"]}
    register(registry, "v1", parent="v0", snapshot="000001-abc", decision=refused)
    passed = lineage("v1", 9, parent="v0", snapshot="000001-abc", decision={"promoted": True})
    registry.judge_again(passed)
    assert registry.lineage("v1") == replace(passed, created_at=lineage("v1").created_at)
    registry.judge_again(lineage("v1", parent="other", snapshot="000002-abc"))
    assert registry.lineage("v1").passed


def test_a_killed_pruning_is_finished(store: Store, register: Register) -> None:
    registry = Registry(store)
    register(registry, "v0")
    store.put_new("models/pruned/v0.json", b"{}")
    registry.finish_pruning()
    assert list(store.list("models/v0")) == []


def test_a_run_file_means_the_current_version_or_one_by_name(
    store: Store, register: Register
) -> None:
    registry = Registry(store)
    assert model_source("configs/models/tiny", None, store) == "configs/models/tiny"
    assert model_source("registry", "somewhere", store) == "somewhere"
    with pytest.raises(ConfigError, match=r"finetune\.base"):
        model_source("registry", None, store)
    register(registry, "v1")
    register(registry, "v2", 1)
    registry.move("v2", "base", None)
    assert Path(model_source("registry", "somewhere", store), "config.json").read_text() == "v2"
    assert Path(model_source("registry@v1", None, store), "config.json").read_text() == "v1"
    with pytest.raises(ConfigError, match="no model version 'v3'"):
        model_source("registry@v3", None, store)


def test_a_record_changed_by_hand_is_refused(store: Store, register: Register) -> None:
    register(Registry(store), "v1")
    store.put("models/lineage/v1.json", b'{"version": "v1"}')
    with pytest.raises(StorageError, match=r"models/lineage/v1\.json: is not a record"):
        Registry(store).lineages()
