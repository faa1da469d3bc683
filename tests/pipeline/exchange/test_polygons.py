"""Outlines give a mask back, its holes filled, however they are rasterized."""

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.exchange.polygons import Loss, filled, outlines
from pipeline.masks import decode, encode

MASKS = arrays(np.bool_, st.tuples(st.integers(1, 24), st.integers(1, 24))).filter(np.any)


def without_holes(mask: np.ndarray) -> np.ndarray:
    """Fill what cannot be reached from outside by steps to the four sides."""
    outside = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    cv2.floodFill(outside, None, (0, 0), 2, flags=4)
    reached: np.ndarray = outside[1:-1, 1:-1] == 2
    return ~reached


@given(MASKS)
def test_exact_outlines_fill_to_the_mask(mask: np.ndarray) -> None:
    loss = Loss()
    found = outlines(encode(mask), 0.0, loss)
    expected = without_holes(mask)
    np.testing.assert_array_equal(decode(filled(found, *mask.shape)), expected)
    assert loss.hole_pixels == (expected & ~mask).sum()


@given(MASKS)
def test_opencv_fills_them_to_the_mask_too(mask: np.ndarray) -> None:
    painted = np.zeros(mask.shape, np.uint8)
    for polygon in outlines(encode(mask), 0.0, Loss()):
        cv2.fillPoly(painted, [polygon.astype(np.int32)], 1)
    np.testing.assert_array_equal(painted.astype(np.bool_), without_holes(mask))


@given(MASKS, st.floats(0, 5))
def test_simpler_outlines_are_polygons_inside_of_the_image(
    mask: np.ndarray, tolerance: float
) -> None:
    for polygon in outlines(encode(mask), tolerance, Loss()):
        assert len(polygon) >= 3
        assert (polygon > 0).all()
        assert (polygon < mask.shape[::-1]).all()
