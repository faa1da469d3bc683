"""Where the objects of a scene go, and which colors and shapes they have."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from workers.scenes.difficulty import Difficulty, is_held_out
from workers.scenes.records import SceneObject
from workers.scenes.shapes import coverage, radius, unit_area

_CHECK_SIDE = 128  # pixels of the shorter side when occlusion is measured, whatever the picture's
_TRIES = 60
_UPRIGHT = 15.0  # largest turn in degrees: silhouettes stand, a square is no diamond
_NEAREST = 0.85  # of the sum of two outlines' radii: nearer ones surely hide each other
_CLEARANCE = 0.04  # least distance of an object from the border, as a share of the shorter side


def picture_size(rng: np.random.Generator, difficulty: Difficulty) -> tuple[int, int]:
    """Return a picture's (height, width) in pixels."""
    low, high = np.log(difficulty.aspect[0]), np.log(difficulty.aspect[1])
    aspect = float(np.exp(rng.uniform(low, high)))
    shortest, longest = difficulty.long_side
    share = min(aspect, 1 / aspect)
    needed = math.ceil(difficulty.short_side / share)
    long_side = min(longest, max(needed, int(rng.integers(shortest, longest + 1))))
    short_side = round(long_side * share)
    return (long_side, short_side) if aspect < 1 else (short_side, long_side)


def place_objects(
    rng: np.random.Generator, size: tuple[int, int], difficulty: Difficulty
) -> tuple[SceneObject, ...]:
    """Return the objects of a scene, the farthest first.

    Objects that find no free place are left out, but never below the fewest allowed.
    """
    count = int(rng.integers(difficulty.objects[0], difficulty.objects[1] + 1))
    for _ in range(_TRIES):
        looks = _looks(rng, count, difficulty)
        placed = _place(rng, looks, size, difficulty)
        if len(placed) >= difficulty.objects[0]:
            return tuple(placed)
    message = f"no room for {difficulty.objects[0]} objects in {size}: lower target_area or objects"
    raise ValueError(message)


def _looks(rng: np.random.Generator, count: int, difficulty: Difficulty) -> list[tuple[str, str]]:
    """Return a (color, shape) an object, drawn from a small palette where they shall share."""
    held = [
        (color, shape)
        for color in difficulty.colors
        for shape in difficulty.shapes
        if is_held_out(color, shape, difficulty)
    ]
    colors, shapes = list(difficulty.colors), list(difficulty.shapes)
    rng.shuffle(colors)
    rng.shuffle(shapes)
    first = held[int(rng.integers(len(held)))] if difficulty.pairs == "held_out" else None
    if rng.random() < difficulty.shared_share:
        colors = colors[: max(2, round(count * 0.5))]
        shapes = shapes[: max(2, round(count * 0.5))]
    if first is not None:
        colors, shapes = [*colors, first[0]], [*shapes, first[1]]
    looks = [] if first is None else [first]
    while len(looks) < count:
        look = colors[int(rng.integers(len(colors)))], shapes[int(rng.integers(len(shapes)))]
        if difficulty.pairs != "training" or look not in held:
            looks.append(look)
        elif rng.random() < 0.2:  # noqa: PLR2004 - a palette of held-out pairs only must not loop
            looks.append(_first_allowed(look[0], difficulty))
    return looks


def _first_allowed(color: str, difficulty: Difficulty) -> tuple[str, str]:
    shape = next(item for item in difficulty.shapes if not is_held_out(color, item, difficulty))
    return color, shape


def _place(
    rng: np.random.Generator,
    looks: list[tuple[str, str]],
    size: tuple[int, int],
    difficulty: Difficulty,
) -> list[SceneObject]:
    placed: list[SceneObject] = []
    for color, shape in looks:
        for _ in range(_TRIES):
            candidate = _candidate(rng, color, shape, size, difficulty)
            if candidate is not None and _is_visible([*placed, candidate], size, difficulty):
                placed.append(candidate)
                break
    return placed


def _candidate(
    rng: np.random.Generator,
    color: str,
    shape: str,
    size: tuple[int, int],
    difficulty: Difficulty,
) -> SceneObject | None:
    """Return an object at a random place, or None when it does not fit into the picture."""
    height, width = (side / min(size) for side in size)
    low, high = np.sqrt(difficulty.target_area[0]), np.sqrt(difficulty.target_area[1])
    area = float(rng.uniform(low, high)) ** 2
    scale = float(np.sqrt(area * height * width / unit_area(shape)))
    reach = scale * radius(shape) + _CLEARANCE
    left, right = reach, width - reach
    top, bottom = reach, height - reach
    if difficulty.central:
        left, right = max(left, width / 2 - 0.45), min(right, width / 2 + 0.45)
        top, bottom = max(top, height / 2 - 0.45), min(bottom, height / 2 + 0.45)
    if left >= right or top >= bottom:
        return None
    x, y = float(rng.uniform(left, right)), float(rng.uniform(top, bottom))
    angle = float(rng.uniform(-_UPRIGHT, _UPRIGHT))
    return SceneObject(shape, color, x, y, scale, angle, area)


def _is_visible(objects: list[SceneObject], size: tuple[int, int], difficulty: Difficulty) -> bool:
    """Return whether the newest object, in front, hides no more of any other than it may."""
    newest = objects[-1]
    gaps = [
        float(np.hypot(item.x - newest.x, item.y - newest.y))
        / (item.scale * radius(item.shape) + newest.scale * radius(newest.shape))
        for item in objects[:-1]
    ]
    if min(gaps, default=1.0) >= 1:
        return newest.area >= difficulty.least_visible
    if min(gaps) < _NEAREST - 2 * difficulty.hidden_share:
        return False
    check = (round(_CHECK_SIDE * size[0] / min(size)), round(_CHECK_SIDE * size[1] / min(size)))
    masks = unhidden([_checked_cover(item, check) for item in objects])
    for item, mask in zip(objects, masks, strict=True):
        least = max(item.area * (1 - difficulty.hidden_share), difficulty.least_visible)
        if mask.mean() < least:
            return False
    return True


@lru_cache(maxsize=64)
def _checked_cover(item: SceneObject, check: tuple[int, int]) -> NDArray[np.float32]:
    """Return :func:`cover`, kept: each try at a place for an object looks at all earlier ones."""
    return cover(item, check)


def unhidden(covers: Sequence[NDArray[np.float32]]) -> NDArray[np.bool_]:
    """Return bool (objects, H, W): where each object is seen, nearer ones hiding farther ones.

    ``covers`` are what :func:`cover` returns of the objects, the farthest first.
    """
    masks = np.zeros((len(covers), *covers[0].shape), dtype=bool)
    for number, covered in enumerate(covers):
        mask = covered > 0.5  # noqa: PLR2004
        masks[:number] &= ~mask
        masks[number] = mask
    return masks


def cover(item: SceneObject, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return an object's coverage of the pixels, float32 (H, W), in a picture of this size."""
    unit = min(size)
    center = (item.x * unit, item.y * unit)
    return coverage(item.shape, size, center, item.scale * unit, item.angle)
