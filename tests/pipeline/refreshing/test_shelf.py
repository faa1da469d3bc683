"""What a refresh leaves behind: a file a step, written once."""

import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pipeline.errors import StoppedError, StorageError
from pipeline.refreshing.report import Relabeled
from pipeline.refreshing.shelf import FOLDER, Begun, Shelf
from pipeline.storage.store import Store


def begun(number: int) -> Begun:
    time = datetime(2026, 3, 1, 12, tzinfo=UTC)
    return Begun(number, "host:1:a", time, "50 new corrections", 50, 7, 2, 3, {"new": 50})


def test_a_refresh_is_open_until_it_is_done(any_store: Store) -> None:
    shelf = Shelf(any_store)
    assert (shelf.last(), shelf.unfinished()) == (None, None)
    shelf.begin(begun(1))
    assert Shelf(any_store).unfinished() == Shelf(any_store).last() == begun(1)
    shelf.steps(begun(1)).write("done", Relabeled, Relabeled())
    assert shelf.unfinished() is None
    shelf.begin(begun(2))
    assert shelf.unfinished() == begun(2)
    with pytest.raises(StoppedError, match="another refresh has written it"):
        shelf.begin(replace(begun(2), owner="host:2:b"))


def test_a_step_is_done_once(store: Store) -> None:
    calls = []

    def work() -> Relabeled:
        calls.append(1)
        return Relabeled(images=len(calls), seconds=math.nan)

    for _ in range(3):
        found = Shelf(store).steps(begun(1)).once("relabeled", Relabeled, work)
        assert found.images == 1
        assert math.isnan(found.seconds)
    assert len(calls) == 1


def test_chosen_images_keep_their_order(store: Store) -> None:
    steps = Shelf(store).steps(begun(1))
    assert steps.chosen() is None
    steps.write_chosen(["s3://b/ü.png", "a"])
    assert steps.chosen() == ["s3://b/ü.png", "a"]
    Shelf(store).steps(begun(2)).write_chosen([])
    assert Shelf(store).steps(begun(2)).chosen() == []


def test_a_file_of_another_version_is_named(store: Store) -> None:
    store.put(f"{FOLDER}/000001/begun.json", b'{"number": 1}')
    with pytest.raises(StorageError, match=r"000001/begun\.json: is not of this version"):
        Shelf(store).last()
