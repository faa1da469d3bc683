"""Varied pictures: mask and picture move together, and an object that is cut off is not asked."""

import numpy as np
import pytest

from workers.finetune.augmentation import varied
from workers.finetune.settings import AugmentSettings
from workers.read.batches import TaughtPicture, TaughtRow


@pytest.fixture
def picture() -> TaughtPicture:
    """Bright where the object is, in the upper left quarter; another object is denied."""
    mask = np.zeros((40, 60), bool)
    mask[4:18, 3:27] = True
    image = np.where(mask, 200, 50)[..., None].repeat(3, axis=2).astype(np.uint8)
    rows = (TaughtRow("Where?", "[SEG].", (mask,)), TaughtRow("And the cow?", "No cow."))
    return TaughtPicture(image, rows)


def object_of(picture: TaughtPicture) -> np.ndarray:
    return picture.image[..., 0] == 200


def test_nothing_changes_by_default(picture: TaughtPicture) -> None:
    same = varied(picture, AugmentSettings(), 1)
    assert np.array_equal(same.image, picture.image)
    assert np.array_equal(same.rows[0].masks[0], picture.rows[0].masks[0])


def test_mask_and_picture_move_together(picture: TaughtPicture) -> None:
    settings = AugmentSettings(flip=True, crop=0.5)
    shown = [varied(picture, settings, draw) for draw in range(40)]
    asked = [one for one in shown if one.rows[0].masks]
    for one in asked:
        assert np.array_equal(object_of(one), one.rows[0].masks[0])
    sizes = {one.image.shape[:2] for one in shown}
    assert min(sizes) >= (20, 30)
    assert max(sizes) <= (40, 60)
    assert len(sizes) > 10
    lefts = [object_of(one).any(axis=0).argmax() < one.image.shape[1] / 4 for one in asked]
    assert {True, False} <= set(lefts)


def test_what_is_cut_off_is_not_asked_but_denials_stay(picture: TaughtPicture) -> None:
    shown = [varied(picture, AugmentSettings(crop=0.4), draw) for draw in range(60)]
    counts = {len(one.rows) for one in shown}
    assert counts == {1, 2}
    for one in shown:
        assert one.rows[-1].answer == "No cow."
        left = object_of(one).sum() / object_of(picture).sum()
        assert (left >= 0.25) == (len(one.rows) == 2)


def test_a_crop_that_would_leave_no_row_is_not_made(picture: TaughtPicture) -> None:
    alone = TaughtPicture(picture.image, picture.rows[:1])
    shown = [varied(alone, AugmentSettings(crop=0.4), draw) for draw in range(60)]
    assert all(len(one.rows) == 1 for one in shown)
    assert any(one.image.shape == picture.image.shape for one in shown)


def test_light_changes_pixels_and_no_mask(picture: TaughtPicture) -> None:
    one = varied(picture, AugmentSettings(light=0.4), 3)
    assert not np.array_equal(one.image, picture.image)
    assert one.image.dtype == np.uint8
    assert np.array_equal(one.rows[0].masks[0], picture.rows[0].masks[0])
    again = varied(picture, AugmentSettings(light=0.4), 3)
    assert np.array_equal(one.image, again.image)
