"""What keeps a version's weights: predictions, corrections, snapshots, trainings not judged yet."""

from collections.abc import Callable
from pathlib import Path

from pipeline.registry.references import referred_versions
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
