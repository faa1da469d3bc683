"""Masks in run-length form say what the pixels said."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.masks import area, decode, empty, encode, iou
from pipeline.records import Rle

MASKS = arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40)))


@given(MASKS)
def test_masks_come_back_as_they_were(mask: np.ndarray) -> None:
    rle = encode(mask)
    assert (rle.height, rle.width) == mask.shape
    np.testing.assert_array_equal(decode(rle), mask)
    assert area(rle) == mask.sum()


@given(st.data())
def test_iou_is_that_of_the_pixels(data: st.DataObject) -> None:
    first = data.draw(MASKS)
    second = data.draw(arrays(np.bool_, first.shape))
    union = (first | second).sum()
    expected = (first & second).sum() / union if union else 1.0
    assert iou(encode(first), encode(second)) == pytest.approx(expected)


def test_run_lengths_go_down_the_columns() -> None:
    mask = np.zeros((2, 3), dtype=np.bool_)
    mask[1, 0] = mask[0, 1] = True
    assert encode(mask) == Rle(2, 3, "123")


def test_an_empty_mask_has_no_area() -> None:
    assert area(empty(3, 5)) == 0
    assert decode(empty(3, 5)).shape == (3, 5)


@pytest.mark.parametrize("counts", ["", "1", "17", "999999999", "oooooo0", "o", "\x00\x01"])
def test_runs_that_do_not_fill_the_mask_are_refused(counts: str) -> None:
    with pytest.raises(ValueError, match="run"):
        decode(Rle(2, 3, counts))


@given(st.text(max_size=30))
def test_hostile_runs_are_refused_or_fit(counts: str) -> None:
    try:
        assert decode(Rle(4, 5, counts)).shape == (4, 5)
    except ValueError:
        return


def test_other_arrays_and_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"boolean array \(H, W\), not uint8 \(2, 2\)"):
        encode(np.zeros((2, 2), dtype=np.uint8))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2x2 and 2x3 pixels cannot be compared"):
        iou(empty(2, 2), empty(2, 3))
