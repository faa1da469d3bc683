"""REFER's files: splits, masks of every kind, false premises, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco

from pipeline.errors import InputError
from pipeline.evaluation.datasets import read_samples
from pipeline.evaluation.metrics import Score, figures

Make = Callable[..., Any]
SQUARE = [[2, 2, 6, 2, 6, 6, 2, 6]]
"""COCO counts pixels whose centers are inside: columns and rows 2 to 5."""


def runs(left: int, right: int) -> list[int]:
    """COCO's run lengths, down the columns, of whole columns of a picture 20x10."""
    return [10 * left, 10 * (right - left), 10 * (20 - right)]


def test_queries_of_a_split_come_image_by_image_as_phrases(refer: Make) -> None:
    made = refer()
    made.add(7, SQUARE, "Left Man", "who is left")
    made.add(3, SQUARE, "dog", split="train")
    made.add(8, SQUARE, "cat")
    made.add(7, SQUARE, "man right.")
    samples = read_samples("refcoco", made.write(), "val")
    assert [(one.query, one.form) for one in samples] == [
        (text, "phrase") for text in ("left man", "who is left", "man right.", "cat")
    ]
    assert samples[0].image_id == "images/mscoco/images/train2014/COCO_train2014_000000000007.jpg"
    assert all(one.image.is_file() and one.present for one in samples)


@pytest.mark.parametrize(
    ("split", "found"), [("testA", ["a", "ab"]), ("testB", ["ab"]), ("test", ["a", "ab", "plain"])]
)
def test_test_groups_overlap_as_in_refer(refer: Make, split: str, found: list[str]) -> None:
    made = refer()
    made.add(1, SQUARE, "a", split="testA")
    made.add(1, SQUARE, "ab", split="testAB")
    made.add(1, SQUARE, "plain", split="test")
    made.add(1, SQUARE, "none", split="val")
    assert [one.query for one in read_samples("refcoco", made.write(), split)] == found


@pytest.mark.parametrize(
    ("segmentation", "columns"),
    [
        (SQUARE, (2, 6)),
        ([[2, 0, 6, 0, 6, 10, 2, 10], [4, 0, 9, 0, 9, 10, 4, 10]], (2, 9)),
        ({"size": [10, 20], "counts": runs(3, 5)}, (3, 5)),
        ([{"size": [10, 20], "counts": runs(3, 5)}], (3, 5)),
        (
            coco.frPyObjects({"size": [10, 20], "counts": runs(1, 4)}, 10, 20)["counts"].decode(),
            (1, 4),
        ),
        ([], None),
    ],
)
def test_every_kind_of_segmentation_is_drawn(
    refer: Make, segmentation: Any, columns: tuple[int, int] | None
) -> None:
    made = refer()
    if isinstance(segmentation, str):
        segmentation = {"size": [10, 20], "counts": segmentation}
    made.add(1, segmentation, "it")
    (sample,) = read_samples("refcoco", made.write(), "val")
    regions = sample.truth.regions(10, 20)
    found = np.flatnonzero(regions.target.any(axis=0))
    assert not regions.ignored.any()
    assert ((found[0], found[-1] + 1) if found.size else None) == columns


def test_scores_of_false_premises_are_those_counted_by_hand(
    refer: Make, scored: Callable[..., list[Score]], said: Make
) -> None:
    made = refer(dataset="fprefcoco", split_by="berkeley_exclude_unified")
    false = {"sent": "red cat", "is_false_premise": True, "gt_sent": "Red Dog"}
    vague = {"sent": "a bus", "is_false_premise": True, "gt_sent": "the car"}
    claimed = {"sent": "a tree", "exist": False}
    made.add(1, SQUARE, {"sent": "red dog", "is_false_premise": False}, false, vague)
    made.add(2, SQUARE, "dog", claimed)
    samples = read_samples("fprefcoco", made.write(), "val")
    assert [one.present for one in samples] == [True, False, False, True, False]
    answers = {
        "red dog": said(2, 2, 6, 8),
        "red cat": said(answer="There is no red cat, but a red dog."),
        "a bus": said(answer="No bus."),
        "dog": said(answer="[SEG]"),
        "a tree": said(0, 0, 4, 4),
    }
    result = scored(samples, answers)
    sums = [(one.intersection, one.union) for one in result]
    assert sums == [(16, 24), (0, 0), (0, 0), (0, 16), (0, 16)]
    measured = figures(result)
    assert measured.giou == pytest.approx((16 / 24 + 1 + 1 + 0 + 0) / 5)
    assert measured.ciou == pytest.approx(16 / 56)
    assert measured.ciou_present == pytest.approx(16 / 40)
    assert measured.see_accuracy == pytest.approx(3 / 5)
    assert measured.denied_absent == pytest.approx(2 / 3)
    assert measured.denied_present == 0  # an empty mask of a [SEG] is no denial
    assert measured.corrected_absent == 0.5


def test_a_query_of_two_objects_is_asked_once_and_scored_for_each(
    refer: Make, scored: Callable[..., list[Score]], said: Make
) -> None:
    made = refer()
    made.add(1, SQUARE, "man")
    made.add(1, [[10, 2, 14, 2, 14, 6, 10, 6]], "man")
    samples = read_samples("refcoco", made.write(), "val")
    result = scored(samples, {"man": said(2, 2, 6, 6)})
    assert [(one.intersection, one.union) for one in result] == [(16, 16), (0, 32)]


def test_the_makers_of_splits_are_looked_for_in_their_order(refer: Make) -> None:
    for maker, text in (("google", "g"), ("umd", "u")):
        made = refer(dataset="refcocog", split_by=maker)
        made.add(1, SQUARE, text)
        root = made.write()
    assert [one.query for one in read_samples("refcocog", root, "val")] == ["u"]
    chosen = read_samples("refcocog", root, "val", split_by="google")
    assert [one.query for one in chosen] == ["g"]
    with pytest.raises(InputError, match=r"no refs\(unc\)\.p; found: refs\(google\)\.p, refs\(umd"):
        read_samples("refcocog", root, "val", split_by="unc")


LAYOUTS = [
    (name, maker, split)
    for name, makers, splits in (
        ("refcoco", ("unc", "google"), ("val", "testA", "testB")),
        ("refcoco+", ("unc",), ("val", "testA", "testB")),
        ("refcocog", ("umd", "google"), ("val", "test")),
        ("fprefcoco", ("berkeley_exclude_unified", "berkeley"), ("val", "test")),
        ("fprefcoco+", ("berkeley_exclude_unified", "berkeley"), ("val", "test")),
        ("fprefcocog", ("berkeley_exclude_unified", "berkeley"), ("val", "test")),
    )
    for maker in makers
    for split in splits
]


@pytest.mark.parametrize("layout", LAYOUTS, ids="-".join)
def test_every_set_is_read_and_scored_in_its_layout(
    refer: Make, scored: Callable[..., list[Score]], said: Make, layout: tuple[str, str, str]
) -> None:
    name, maker, split = layout
    made = refer(dataset=name, split_by=maker)
    made.add(1, SQUARE, "the box", split=split)
    made.add(1, SQUARE, "elsewhere", split="train")
    false = name.startswith("fp")
    if false:
        made.add(2, SQUARE, {"sent": "a ship", "is_false_premise": True}, split=split)
    samples = read_samples(name, made.write(), split)
    assert [(one.query, one.present) for one in samples] == [
        ("the box", True),
        ("a ship", False),
    ][: 1 + false]
    answers = {"the box": said(2, 2, 6, 8), "a ship": said(answer="There is none.")}
    measured = figures(scored(samples, answers))
    assert measured.ciou == pytest.approx(16 / 24)
    assert measured.giou == pytest.approx((16 / 24 + 1) / 2 if false else 16 / 24)


def test_sesames_folder_above_is_found_and_images_are_limited(refer: Make, tmp_path: Path) -> None:
    made = refer(dataset="refcoco+")
    for image in (1, 2, 3):
        made.add(image, SQUARE, "a", "b")
    made.write().rename(tmp_path / "refer_seg")
    samples = read_samples("refcoco+", tmp_path, "val", limit=2)
    assert [one.image.stem[-1] for one in samples] == ["1", "1", "2", "2"]


def test_another_pictures_size_is_refused(refer: Make) -> None:
    made = refer()
    made.add(1, SQUARE, "it")
    (sample,) = read_samples("refcoco", made.write(), "val")
    with pytest.raises(InputError, match=r"ref 0: instances\.json says 20x10 pixels"):
        sample.truth.regions(20, 10)


@pytest.mark.parametrize(
    "segmentation",
    [
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6, 7]],
        {"size": [10, 20], "counts": "nonsense"},
        {"size": [20, 10], "counts": runs(0, 1)},
        {"counts": runs(0, 1)},
        [["a", "b", "c", "d", "e", "f"]],
    ],
)
def test_what_cannot_be_drawn_is_refused_by_its_ref(refer: Make, segmentation: Any) -> None:
    made = refer()
    made.add(1, segmentation, "it")
    (sample,) = read_samples("refcoco", made.write(), "val")
    with pytest.raises(InputError, match="ref 0: its segmentation"):
        sample.truth.regions(10, 20)


def test_what_is_missing_is_named(refer: Make) -> None:
    made = refer()
    made.add(1, SQUARE, "it")
    root = made.write()
    with pytest.raises(InputError, match=r"no refs in 'testB'; its splits: \['val'\]"):
        read_samples("refcoco", root, "testB")
    with pytest.raises(InputError, match="folder of refcocog"):
        read_samples("refcocog", root, "val")
    with pytest.raises(
        InputError, match=r"refclef: unknown set; known: reasonseg, refcoco, refcoco\+"
    ):
        read_samples("refclef", root, "val")
    made.annotations.clear()
    made.write()
    with pytest.raises(InputError, match=r"annotations lacks \[100\]"):
        read_samples("refcoco", root, "val")
