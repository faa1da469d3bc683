"""From (seed, index) to a scene: layout, queries and picture, each from its own random stream."""

import numpy as np

from workers.scenes.difficulty import EASY, Difficulty
from workers.scenes.layout import cover, picture_size, place_objects, unhidden
from workers.scenes.paint import add_object, background, finish
from workers.scenes.queries import ask, deny
from workers.scenes.records import Query, Scene, SceneObject

_LAYOUT, _LANGUAGE, _LOOK, _DENIALS = range(4)


def describe(
    seed: int, index: int = 0, difficulty: Difficulty = EASY
) -> tuple[tuple[int, int], tuple[SceneObject, ...], tuple[Query, ...]]:
    """Return a scene's full (height, width) in pixels, objects and queries without drawing it."""
    layout = np.random.default_rng((seed, index, _LAYOUT))
    size = picture_size(layout, difficulty)
    objects = place_objects(layout, size, difficulty)
    return size, objects, ask(np.random.default_rng((seed, index, _LANGUAGE)), objects, difficulty)


def deny_more(seed: int, index: int, difficulty: Difficulty, count: int) -> tuple[Query, ...]:
    """Return a scene's queries and ``count`` more about absent objects, or as many as it allows."""
    _, objects, queries = describe(seed, index, difficulty)
    random = np.random.default_rng((seed, index, _DENIALS))
    for _ in range(count):
        query = deny(random, objects, difficulty, queries)
        queries = queries if query is None else (*queries, query)
    return queries


def render(
    seed: int,
    index: int = 0,
    difficulty: Difficulty = EASY,
    max_side: int | None = None,
    max_short_side: int | None = None,
) -> Scene:
    """Return scene ``index`` of ``seed``: the same one on every call.

    ``max_side`` draws the same scene with its longer side cut to so many pixels, and
    ``max_short_side`` with its shorter side; given both, the larger of the two pictures is drawn.
    Layout, queries and truth stay the same.

    Raises:
        ValueError: the difficulty asks for more or larger objects than a picture holds.
    """
    size, objects, queries = describe(seed, index, difficulty)
    bounds = ((max_side, max(size)), (max_short_side, min(size)))
    factors = [bound / side for bound, side in bounds if bound is not None]
    factor = max(factors, default=1.0)
    if factor < 1:
        size = (max(1, round(size[0] * factor)), max(1, round(size[1] * factor)))
    look = np.random.default_rng((seed, index, _LOOK))
    picture = background(look, size, difficulty.texture)
    covers = [cover(item, size) for item in objects]
    for item, covered in zip(objects, covers, strict=True):
        picture = add_object(look, picture, covered, item.color, difficulty.texture)
    image = finish(look, picture, difficulty.texture)
    return Scene(seed, index, image, objects, unhidden(covers), queries)
