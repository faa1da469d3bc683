"""Which weights a serving replica begins with, moves on to, and stays with."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import pytest
import torch

from pipeline.errors import ModelUnusableError
from pipeline.registry.current import CurrentVersion
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import Store, open_store
from tests.versions import less_sure, make_current, record
from workers.models import plan_model
from workers.serve.job import ServeJob
from workers.serve.pointer import PATH, forget_choice
from workers.serve.settings import ServeSettings
from workers.serve.swapping import Swapper
from workers.settings import LimitSettings, PoolSettings

OFTEN = 1e-9


@dataclass(frozen=True)
class Place:
    """A store whose registry holds two versions, the first of them current."""

    store: Store
    tiny: Path
    first: str
    second: str

    def job(self) -> ServeJob:
        """Begin with the first, and follow."""
        return ServeJob(
            store=self.store.uri,
            s3=S3Settings(),
            limits=LimitSettings(),
            pool=PoolSettings(),
            settings=ServeSettings(follow_seconds=OFTEN),
            model=plan_model(str(self.tiny), S3Settings(), "float32"),
            look=CurrentVersion(self.store.uri, S3Settings()),
        )

    def weights(self, version: str) -> Path:
        """Return where a version lies."""
        return Path(self.store.uri.removeprefix("file://"), "models", version)


@pytest.fixture
def place(repository: Path, tmp_path: Path) -> Place:
    tiny = repository / "configs" / "models" / "tiny"
    store = open_store(str(tmp_path / "store"), S3Settings())
    first = record(store, tiny)
    second = record(store, less_sure(tiny, tmp_path / "second"))
    make_current(store, first)
    return Place(store, tiny, first, second)


def at_once(work: Callable[[], None]) -> float:
    """Stand for the line when nobody asks."""
    work()
    return 0.125


def test_a_replica_moves_on_to_what_is_current(place: Place) -> None:
    swapper = Swapper(place.job())
    swapper.follow(at_once)
    assert (swapper.model.version, swapper.swaps) == (place.first, 0)
    make_current(place.store, place.second)
    swapper.follow(at_once)
    assert (swapper.model.version, swapper.swaps) == (place.second, 1)
    assert swapper.last
    assert (swapper.last.before, swapper.last.after) == (place.first, place.second)
    assert swapper.last.load > 0
    assert swapper.last.pause == 0.125


def test_a_choice_by_hand_holds_until_the_pointer_moves(place: Place) -> None:
    swapper = Swapper(place.job())
    make_current(place.store, place.second)
    assert swapper.use(str(place.tiny), at_once) == place.first
    swapper.follow(at_once)
    assert swapper.model.version == place.first
    restarted = Swapper(place.job())
    restarted.follow(at_once)
    assert restarted.model.version == place.first
    make_current(place.store, place.first)
    make_current(place.store, place.second)
    restarted.follow(at_once)
    assert restarted.model.version == place.second
    assert Swapper(place.job()).model.version == place.second


def test_a_replica_in_a_dead_ones_place_makes_its_choice_for_this_start_only(place: Place) -> None:
    job = replace(place.job(), look=None)
    Swapper(job).use(str(place.weights(place.second)), at_once)
    assert Swapper(job).model.version == place.second
    forget_choice(place.store)
    assert Swapper(job).model.version == place.first


@pytest.mark.parametrize("note", [b"{", b"\xff", b"[]", b'{"begun": 1}'])
def test_a_broken_note_of_a_choice_keeps_no_replica_from_starting(
    place: Place, note: bytes
) -> None:
    place.store.put(PATH, note)
    assert Swapper(place.job()).model.version == place.first


def test_a_choice_that_is_gone_is_told_and_the_current_version_answers(place: Place) -> None:
    noted = {"begun": place.first, "source": str(place.store.uri) + "/gone", "number": 1}
    place.store.put(PATH, json.dumps(noted).encode())
    swapper = Swapper(place.job())
    assert swapper.model.version == place.first
    assert swapper.trouble
    assert "gone" in swapper.trouble.reason


def test_what_cannot_be_loaded_leaves_the_old_one_and_is_tried_again(
    place: Place,
) -> None:
    swapper = Swapper(place.job())
    tokenizer = place.weights(place.second) / "tokenizer.model"
    content = tokenizer.read_bytes()
    tokenizer.unlink()
    make_current(place.store, place.second)
    swapper.follow(at_once)
    assert (swapper.model.version, swapper.swaps) == (place.first, 0)
    assert swapper.trouble
    assert swapper.trouble.after == place.second
    assert "tokenizer.model" in swapper.trouble.reason
    with pytest.raises(ModelUnusableError):
        swapper.use(str(place.weights(place.second)), at_once)
    tokenizer.write_bytes(content)
    swapper.follow(at_once)
    assert (swapper.model.version, swapper.trouble) == (place.second, None)


def break_loading(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def load(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr("workers.read.engine.ReadEngine.load", load)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), OSError(5, "broken disk"), TypeError()]
)
def test_weights_that_fail_while_they_are_loaded_are_refused_with_the_reason(
    place: Place, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    swapper = Swapper(place.job())
    with monkeypatch.context() as broken:
        break_loading(broken, error)
        with pytest.raises(ModelUnusableError, match=f"{place.second}: {type(error).__name__}: "):
            swapper.use(str(place.weights(place.second)), at_once)
    assert (swapper.model.version, swapper.swaps) == (place.first, 0)
    assert Swapper(place.job()).model.version == place.first, "nor is it noted as chosen"


def test_a_place_that_nobody_has_is_refused_with_the_reason(place: Place) -> None:
    with pytest.raises(ModelUnusableError, match="~nosuchuser/model: RuntimeError: "):
        Swapper(place.job()).use("~nosuchuser/model", at_once)


def test_a_device_that_breaks_while_weights_are_loaded_is_not_taken_for_their_fault(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    swapper = Swapper(place.job())
    break_loading(monkeypatch, RuntimeError("CUDA error: an illegal memory access"))
    with pytest.raises(RuntimeError, match="CUDA error"):
        swapper.use(str(place.weights(place.second)), at_once)


def test_files_that_are_not_those_of_the_version_are_refused(place: Place, tmp_path: Path) -> None:
    make_current(place.store, place.second)
    swapper = Swapper(replace(place.job(), settings=ServeSettings(follow_seconds=OFTEN)))
    assert swapper.model.version == place.second
    third = less_sure(place.weights(place.second), tmp_path / "third")
    number = record(place.store, third)
    (place.weights(number) / "config.json").write_text(
        (place.weights(number) / "config.json").read_text() + "\n"
    )
    make_current(place.store, number)
    swapper.follow(at_once)
    assert swapper.model.version == place.second
    assert swapper.trouble
    assert f"after version {number} was recorded" in swapper.trouble.reason
