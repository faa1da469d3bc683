"""Frozen training sets: rebuilt bit for bit, never a held-out row, what counts for what."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import InputError, SnapshotError
from pipeline.learning.freeze import Freezer
from pipeline.learning.settings import DataSettings
from pipeline.progress import Progress
from pipeline.records import Example
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import Store, open_store
from pipeline.storage.training_sets import Manifest, TrainingSets
from tests.pipeline.learning.conftest import People
from workers.dialogue import ANYTHING

Many = Callable[[int], People]


def freeze(store: Store, learned: Manifest | None = None, **settings: object) -> Manifest:
    freezer = Freezer(store, DataSettings.model_validate(settings), Progress())
    return freezer.freeze("m1", learned)


def by_image(examples: list[Example], split: str) -> set[str]:
    return {example.image_id for example in examples if example.split == split}


def test_a_set_is_rebuilt_bit_for_bit_whatever_people_do_later(store: Store, many: Many) -> None:
    people = many(12)
    manifest = freeze(store)
    before = TrainingSets(store).examples(manifest)
    assert len(before) == 24
    people.commit(*(replace(people.says(name), id=f"{name} road") for name in people.pictures))
    many(5)

    again = TrainingSets(open_store(store.uri, S3Settings()))
    assert again.examples(again.named(manifest.name)) == before
    later = freeze(store)
    assert (manifest.number, later.number) == (1, 2)
    assert again.examples(later) != before
    assert again.examples(manifest) == before


def test_what_is_held_out_stays_so(store: Store, many: Many) -> None:
    many(15)
    sets = TrainingSets(store)
    first = sets.examples(freeze(store))
    held = by_image(first, "holdout")
    assert 0 < len(held) < 15
    many(25)
    for settings in ({}, {"holdout": 0.9}, {"similar_bits": 0}, {"grouping": "folder"}):
        later = sets.examples(freeze(store, **settings))
        assert held <= by_image(later, "holdout")
        assert by_image(first, "train") <= by_image(later, "train")
        assert not by_image(later, "train") & by_image(later, "holdout")


def test_frames_do_not_leak(store: Store, people: People) -> None:
    names = [f"{scene}-{frame}.png" for scene in range(20) for frame in range(3)]
    for name in names:
        scene, frame = name.removesuffix(".png").split("-")
        people.picture(name, seed=int(scene), shift=int(frame))
    people.commit(*(people.says(name) for name in names))
    examples = TrainingSets(store).examples(freeze(store))
    splits: dict[str, set[str]] = {}
    for example in examples:
        splits.setdefault(Path(example.image).name.split("-")[0], set()).add(example.split)
    assert len(splits) == 20
    assert all(len(found) == 1 for found in splits.values())


def test_absent_verdicts_become_denials_and_more_changed_counts_more(
    store: Store, people: People
) -> None:
    for number in range(6):
        people.picture(f"{number}.png", number)
    rows = [
        people.says("0.png", "car", iou=1.0, verdict="accepted"),
        people.says("1.png", "car", iou=0.25),
        people.says("2.png", "car", present=False),
        people.says("3.png", "query 2", present=False),
        people.says("4.png", "car", iou=0.0, key="", model_version=""),
        people.says("5.png", "car [SEG]", present=False),
    ]
    people.commit(*rows)
    found = {row.id: row for row in TrainingSets(store).examples(freeze(store, emphasis=2.0))}
    said = {Path(row.image).stem: (row.answer, row.weight) for row in found.values()}
    assert said == {
        "0": ("Sure, it is [SEG].", 1.0),
        "1": ("Sure, it is [SEG].", 2.5),
        "2": ("There is no car in this image.", 3.0),
        "3": ("There is no such thing in this image.", 3.0),
        "4": ("Sure, it is [SEG].", 1.0),
        "5": ("There is no such thing in this image.", 3.0),
    }


def test_what_cannot_be_learned_from_is_left_out_with_its_reason(
    store: Store, people: People
) -> None:
    for number in range(8):
        people.picture(f"{number}.png", number)
    rows = [people.says(f"{number}.png") for number in range(8)]
    rows[2] = people.says("2.png", verdict="skipped")
    rows[3] = people.says("3.png", mask=people.says("3.png", present=False).mask)
    rows[6] = people.says("6.png", verdict="deleted")
    people.commit(*rows)
    people.pictures["0.png"].unlink()
    people.picture("1.png", 99)
    manifest = freeze(store)
    assert manifest.left_out == {
        "whose image has changed": 1,
        "whose image is gone": 1,
        "whose mask is empty though the object is present": 1,
    }
    assert {Path(row.image).stem for row in TrainingSets(store).examples(manifest)} == set("457")


def test_nothing_new_makes_no_new_set(store: Store, many: Many) -> None:
    many(6)
    first = freeze(store)
    assert freeze(store) == first
    assert freeze(store, emphasis=0.5).number == 2


def test_earlier_rows_rest_or_are_replayed(store: Store, many: Many) -> None:
    many(20)
    sets = TrainingSets(store)
    first = freeze(store)
    many(10)
    new = by_image(sets.examples(freeze(store)), "train") - by_image(sets.examples(first), "train")
    halved = freeze(store, first, replay={"earlier": 0.5})
    half = sets.examples(halved)
    assert new <= by_image(half, "train")
    rested = [row for row in half if row.split == "rested"]
    learned = [row for row in sets.examples(first) if row.split == "train"]
    assert 0.2 * len(learned) < len(rested) < 0.8 * len(learned)
    none = freeze(store, first, replay={"earlier": 0.0})
    assert by_image(sets.examples(none), "train") == new
    assert freeze(store, none, replay={"earlier": 0.0}) == none
    assert freeze(store, halved, replay={"earlier": 0.5}) == halved
    with pytest.raises(InputError, match="no correction to learn from"):
        freeze(store, halved, replay={"earlier": 0.0})


def test_what_was_learned_is_frozen_anew_when_the_settings_change(store: Store, many: Many) -> None:
    many(6)
    learned = freeze(store)
    assert freeze(store, learned) == learned
    scenes = {"scenes": {"count": 2, "judged": 1}}
    again = freeze(store, learned, replay=scenes)
    assert (again.number, again.digest) == (2, learned.digest)
    assert freeze(store, again, replay=scenes) == again


def test_another_store_is_replayed_and_keeps_its_own_split(
    store: Store, many: Many, tmp_path: Path
) -> None:
    many(4)
    other = People(open_store(str(tmp_path / "other"), S3Settings()), tmp_path / "set")
    for number in range(12):
        other.picture(f"{number}.png", 100 + number)
    other.commit(*(other.says(name) for name in other.pictures))
    manifest = freeze(store, replay={"stores": [other.store.uri]})
    examples = TrainingSets(store).examples(manifest)
    replayed = [row for row in examples if row.origin == "replay"]
    assert len(replayed) == 12
    assert {row.split for row in replayed} == {"train", "holdout"}
    assert len(examples) == 20


def test_a_set_without_its_table_version_is_refused(store: Store, many: Many) -> None:
    many(4)
    manifest = freeze(store)
    sets = TrainingSets(store)
    row = sets.rows(manifest)[0]
    with pytest.raises(SnapshotError, match="cannot be rebuilt"):
        sets.examples(replace(manifest, digest="0" * 64))
    assert row.weight == 1.5
    freezer = Freezer(store, DataSettings(), Progress())
    assert freezer.is_intact(manifest)
    assert store.address.local
    for file in (store.address.local / "corrections").rglob("*.parquet"):
        file.unlink()
    with pytest.raises(SnapshotError, match=r"cannot be rebuilt \(.*parquet.* --fresh"):
        sets.examples(manifest)
    assert not freezer.is_intact(manifest)


def test_no_corrections_is_an_error_that_says_what_to_do(store: Store) -> None:
    with pytest.raises(InputError, match="correct more images"):
        freeze(store)


def test_dialogue_is_frozen_and_is_not_what_the_gate_judges_by(
    store: Store, many: Many, tmp_path: Path
) -> None:
    many(3)
    asked = {turn.question for turn in freeze(store).dialogue}
    assert len(asked) > 20
    assert not asked & {question for question, _ in ANYTHING}
    path = tmp_path / "talk.jsonl"
    path.write_text('{"question": "Who?", "answer": "You."}\n{"question": "Where [SEG]?"}\n')
    with pytest.raises(InputError, match=r"talk\.jsonl: row 2: question"):
        freeze(store, replay={"dialogue": str(path)})
