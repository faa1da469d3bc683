"""ReasonSeg's JSON files: which queries are asked, in which form, against which truth."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.evaluation.datasets import read_samples
from pipeline.evaluation.metrics import Score, figures

Write = Callable[..., Path]


def shape(label: str, left: int, top: int, right: int, bottom: int) -> dict[str, object]:
    """A rectangle whose outline belongs to it: both ends count."""
    corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
    return {"label": label, "points": corners, "shape_type": "polygon"}


def test_the_first_text_is_asked_in_the_form_its_flag_says(reasonseg: Write) -> None:
    target = [shape("target", 0, 0, 3, 3)]
    reasonseg("b", text=["find what rolls", "other"], is_sentence=True, shapes=target)
    root = reasonseg("a", text=["The Ball?"], is_sentence=False, shapes=target)
    asked = [
        (one.image.name, one.query, one.form) for one in read_samples("reasonseg", root, "val")
    ]
    assert asked == [("a.jpg", "the ball?", "phrase"), ("b.jpg", "find what rolls", "sentence")]


def test_polygons_are_drawn_largest_first_and_ignored_ones_leave_both_sums(
    reasonseg: Write,
) -> None:
    shapes = [
        shape("target", 2, 2, 4, 4),
        shape("Ignore this", 1, 1, 6, 6),
        shape("target", 0, 0, 9, 9),
        shape("flag", 0, 0, 19, 9),
    ]
    root = reasonseg("a", text=["it"], is_sentence=False, shapes=shapes)
    (sample,) = read_samples("reasonseg", root, "val")
    regions = sample.truth.regions(10, 20)
    assert regions.ignored.sum() == 6 * 6 - 3 * 3
    assert regions.target.sum() == 10 * 10 - regions.ignored.sum()
    assert regions.target[3, 3]
    assert regions.ignored[1, 1]


def test_fractions_of_coordinates_are_cut(reasonseg: Write) -> None:
    points = [[2.9, 1.9], [5.9, 1.9], [5.9, 3.9], [2.9, 3.9]]
    shapes = [{"label": "target", "points": points}]
    root = reasonseg("a", text=["it"], is_sentence=False, shapes=shapes)
    (sample,) = read_samples("reasonseg", root, "val")
    rows, columns = np.nonzero(sample.truth.regions(10, 20).target)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (1, 3, 2, 5)


def test_scores_are_those_counted_by_hand(
    reasonseg: Write, scored: Callable[..., list[Score]], said: Callable[..., object]
) -> None:
    shapes = [shape("target", 0, 0, 9, 9), shape("ignore", 6, 0, 7, 9)]
    reasonseg("a", text=["a"], is_sentence=False, shapes=shapes)
    root = reasonseg(
        "b",
        text=["b"],
        is_sentence=False,
        shapes=[shape("target", 0, 0, 3, 4)],
        false_premise_QA=[["c", False, "There is none."], ["d", False, "Nor that."]],
    )
    samples = read_samples("reasonseg", root, "val")
    answers = {"a": said(5, 0, 15, 10), "b": said(answer="No."), "c": said(answer="None here.")}
    result = scored(samples, answers)
    # a: columns 5, 8, 9 hit; target 0-5, 8, 9; predicted 5, 8-14 without the ignored 6 and 7
    assert [(one.intersection, one.union) for one in result] == [(30, 130), (0, 20), (0, 0)]
    measured = figures(result)
    assert measured.giou == pytest.approx((30 / 130 + 0 + 1) / 3)
    assert measured.ciou == pytest.approx(30 / 150)
    assert measured.giou_present == pytest.approx(15 / 130)
    assert measured.see_accuracy == pytest.approx(2 / 3)
    assert (measured.queries, measured.images, measured.absent) == (3, 2, 1)
    assert (measured.denied_absent, measured.denied_present) == (1.0, 0.5)


def test_windows_encoding_is_read(reasonseg: Write) -> None:
    root = reasonseg("a", text=["x"], is_sentence=True, shapes=[])
    path = root / "ReasonSeg" / "val" / "a.json"
    path.write_bytes(
        path.read_text().replace('"x"', '"the caf\u00e9\u2019s door"').encode("cp1252")
    )
    (sample,) = read_samples("reasonseg", root, "val")
    assert sample.query == "the caf\u00e9\u2019s door"
    assert not sample.present


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"is_sentence": "perhaps"}, "is_sentence"),
        ({"text": []}, "text"),
        ({"shapes": [{"label": "target", "points": [[float("nan"), 0]]}]}, "shapes.0.points"),
    ],
)
def test_a_wrong_field_is_named_with_its_file(
    reasonseg: Write, wrong: dict[str, object], message: str
) -> None:
    root = reasonseg("a", **{"text": ["x"], "is_sentence": True, "shapes": [], **wrong})
    with pytest.raises(InputError, match=rf"a\.json: {message}"):
        read_samples("reasonseg", root, "val")


def test_a_missing_split_and_a_missing_json_are_told(reasonseg: Write) -> None:
    root = reasonseg("a", text=["x"], is_sentence=True, shapes=[])
    with pytest.raises(InputError, match="'test' split of ReasonSeg was not found"):
        read_samples("reasonseg", root, "test")
    (root / "ReasonSeg" / "val" / "a.json").unlink()
    with pytest.raises(InputError, match=r"a\.json: cannot be read"):
        read_samples("reasonseg", root, "val")
