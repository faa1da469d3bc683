"""A refresh that was killed after its promotion knows what it has decided."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime

import pytest

from pipeline.learning.gate import Decision
from pipeline.refreshing.news import decided_since
from pipeline.refreshing.shelf import Begun
from pipeline.registry.lineage import Lineage, Pointer
from pipeline.registry.registry import Registry
from pipeline.storage.store import Store
from pipeline.storage.training_sets import TrainingSets
from tests.pipeline.registry.conftest import manifest

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SNAPSHOT = manifest(1, "base").name


def decision(*, promoted: bool) -> Decision:
    return Decision(
        snapshot=SNAPSHOT,
        candidate="new",
        incumbent="base",
        metrics={},
        gain=0.1,
        gain_ci=(0.05, 0.15),
        guards=(),
        promoted=promoted,
        reasons=("because",),
    )


def begun(*, pointer: int, snapshot: int) -> Begun:
    return Begun(1, "host:1:a", NOON, "why", 50, 7, pointer, snapshot, None)


@pytest.fixture
def base(store: Store) -> Pointer:
    """The version that is current when the refresh begins; it leaves a training set."""
    registry = Registry(store)
    registry.record(Lineage("base", "", "", "somewhere", "0.1.0", NOON))
    pointer = registry.move("base", "base", None)
    assert TrainingSets(store).write_manifest(manifest(1, "base"))
    return pointer


@pytest.fixture
def promote(store: Store, base: Pointer) -> Callable[..., None]:
    """Promote what learned from the training set, and die before anything else is written."""

    def move(*, passed: bool = True) -> None:
        plain = asdict(decision(promoted=passed))
        lineage = Lineage("new", "base", SNAPSHOT, "", "0.1.0", NOON, decision=plain)
        Registry(store).record(lineage)
        Registry(store).move("new", "promote", base)

    return move


def test_nothing_is_decided_before_the_gate(store: Store, base: Pointer) -> None:
    assert decided_since(store, begun(pointer=base.number, snapshot=0)) is None


@pytest.mark.parametrize("snapshot", [0, 1])
def test_a_promotion_counts_before_it_is_settled(
    store: Store, base: Pointer, promote: Callable[..., None], snapshot: int
) -> None:
    promote()
    found = decided_since(store, begun(pointer=base.number, snapshot=snapshot))
    assert found == decision(promoted=True)


def test_what_somebody_forced_meanwhile_does_not_count(
    store: Store, base: Pointer, promote: Callable[..., None]
) -> None:
    promote(passed=False)
    assert decided_since(store, begun(pointer=base.number, snapshot=1)) is None


def test_an_earlier_promotion_does_not_count(
    store: Store, base: Pointer, promote: Callable[..., None]
) -> None:
    promote()
    assert decided_since(store, begun(pointer=base.number + 1, snapshot=1)) is None


def test_a_refusal_counts_once_it_is_settled(store: Store, base: Pointer) -> None:
    refused = decision(promoted=False)
    TrainingSets(store).settle(manifest(1, "base"), "000001-abc", "gate", refused.to_json())
    assert decided_since(store, begun(pointer=base.number, snapshot=0)) == refused
    assert decided_since(store, begun(pointer=base.number, snapshot=1)) is None
