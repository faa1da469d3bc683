"""Pictures varied each time they are shown: mirrored, cropped, lighter or darker."""

import numpy as np
from numpy.typing import NDArray

from workers.finetune.settings import AugmentSettings
from workers.read.batches import TaughtPicture, TaughtRow

_LEFT_OF_OBJECT = 0.25
"""A row stays if the crop leaves so much of each of its masks."""


def varied(picture: TaughtPicture, settings: AugmentSettings, draw: int) -> TaughtPicture:
    """Return a picture and its rows as ``settings`` allow to vary them; ``draw`` decides how.

    A row whose object is cut off is left out; a crop that would leave no row is not made.
    """
    random = np.random.default_rng(draw)
    flip = settings.flip and random.random() < 0.5  # noqa: PLR2004  (half of them)
    height, width = picture.image.shape[:2]
    window = _window((height, width), settings.crop, random)
    rows = [row for row in picture.rows if _in_sight(row, window)]
    if not rows:
        rows, window = list(picture.rows), (slice(None), slice(None))
    step = -1 if flip else 1
    image = np.ascontiguousarray(picture.image[window][:, ::step])
    shown = (
        TaughtRow(
            row.question,
            row.answer,
            tuple(np.ascontiguousarray(mask[window][:, ::step]) for mask in row.masks),
        )
        for row in rows
    )
    return TaughtPicture(_lit(image, settings.light, random), tuple(shown))


def _window(
    size: tuple[int, int], smallest: float, random: np.random.Generator
) -> tuple[slice, slice]:
    sides = []
    share = random.uniform(smallest, 1.0)
    for side in size:
        kept = max(1, round(side * share))
        start = int(random.integers(side - kept + 1))
        sides.append(slice(start, start + kept))
    return sides[0], sides[1]


def _in_sight(row: TaughtRow, window: tuple[slice, slice]) -> bool:
    return all(mask[window].sum() >= _LEFT_OF_OBJECT * mask.sum() for mask in row.masks)


def _lit(image: NDArray[np.uint8], most: float, random: np.random.Generator) -> NDArray[np.uint8]:
    if not most:
        return image
    contrast, brightness = random.uniform(-most, most, 2)
    changed = (image.astype(np.float32) - 128) * (1 + contrast) + 128 * (1 + brightness)
    return np.clip(np.rint(changed), 0, 255).astype(np.uint8)
