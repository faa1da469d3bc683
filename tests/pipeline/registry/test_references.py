"""What keeps a version's weights: predictions, corrections, snapshots, trainings not judged yet."""

from collections.abc import Callable
from pathlib import Path

from pipeline.registry.references import prune_models, referred_versions
from pipeline.registry.registry import Registry
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.store import Store
from pipeline.storage.training_sets import TrainingSets
from tests.pipeline.registry.conftest import manifest
from tests.workers.finetune.conftest import corrections

TRAINED = "training/000001-abc/result.json"


def test_what_people_corrected_is_kept(store: Store, tmp_path: Path) -> None:
    CorrectionTable(store).append(corrections(tmp_path / "photos", 1, store.s3))
    assert referred_versions(store) == {"m1"}


def test_what_learning_began_with_is_kept(store: Store) -> None:
    for number, model in enumerate(("first", "second"), 1):
        assert TrainingSets(store).write_manifest(manifest(number, model))
    assert referred_versions(store) == {"first", "second"}


def test_a_candidate_is_kept_until_it_is_judged(
    store: Store, register: Callable[..., None]
) -> None:
    registry = Registry(store)
    register(registry, "first")
    register(registry, "other", 1)
    first = registry.move("first", "base", None)
    assert TrainingSets(store).write_manifest(manifest(1, "first"))
    store.put("training/000001-abc/job.json", b"{}")
    assert referred_versions(store) == {"first"}
    store.put(TRAINED, b'{"version": "candidate"}')
    store.put("training/000001-abc/ray/x/result.json", b'{"of": "somebody else"}')
    assert referred_versions(store) == {"first", "candidate"}
    back = registry.move("other", "promote", first)
    assert referred_versions(store) == {"first"}
    registry.move("first", "rollback", back)
    assert referred_versions(store) == {"first", "candidate"}
    TrainingSets(store).settle(manifest(1, "first"), "000001-abc", "gate", {"promoted": False})
    assert referred_versions(store) == {"first"}


def _trained(store: Store, job: str, version: str) -> None:
    """Let a training have ended, as it is before anybody has judged its candidate."""
    store.put(f"models/{version}/model.safetensors", b"weights")
    store.put(f"training/{job}/job.json", b"{}")
    store.put(f"training/{job}/result.json", f'{{"version": "{version}"}}'.encode())


def test_a_candidate_that_a_newer_snapshot_came_before_is_pruned(
    store: Store, register: Callable[..., None]
) -> None:
    registry, sets = Registry(store), TrainingSets(store)
    register(registry, "first")
    first = registry.move("first", "base", None)
    assert sets.write_manifest(manifest(1, "first"))
    _trained(store, "000001-abc", "left")
    register(registry, "second", 1)
    registry.move("second", "promote", first)
    assert prune_models(store, 5, dry_run=False) == [], "a rollback would go on with it"
    assert sets.write_manifest(manifest(2, "second"))
    _trained(store, "000002-abc", "candidate")
    assert prune_models(store, 5, dry_run=True) == ["left"]
    assert prune_models(store, 5, dry_run=False) == ["left"]
    assert list(store.list("models/left")) == []
    assert len(list(store.list("models/candidate"))) == 1
    assert prune_models(store, 5, dry_run=False) == []


def test_a_candidate_of_what_the_current_version_learned_is_kept(
    store: Store, register: Callable[..., None]
) -> None:
    registry, sets = Registry(store), TrainingSets(store)
    for number, model in enumerate(("first", "second"), 1):
        assert sets.write_manifest(manifest(number, model))
    register(registry, "second", snapshot=manifest(1, "first").name)
    registry.move("second", "base", None)
    _trained(store, "000001-abc", "again")
    assert prune_models(store, 5, dry_run=True) == []
    register(registry, "third", 1, snapshot=manifest(2, "second").name)
    registry.move("third", "promote", registry.current())
    assert prune_models(store, 5, dry_run=True) == ["again"]
