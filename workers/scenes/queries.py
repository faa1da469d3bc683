"""Queries about a scene with their truth: what is asked, which objects answer it, what to deny.

Every kind has one function that lists its possible queries, present and absent; :func:`ask` draws
from them. A query is listed only when its answer is beyond doubt: one object, by a clear margin.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from workers.scenes import absent as absences
from workers.scenes import phrases
from workers.scenes.difficulty import Difficulty, is_held_out
from workers.scenes.records import Query, QueryKind, SceneObject
from workers.scenes.view import View, along, group_of, neighbors, related

_MARGIN = 0.15  # of the shorter side: how clearly an object must lie further to a side
_SIZE_RATIO = 1.6  # of areas: how clearly an object must be larger
_TRIES = 40


def ask(
    rng: np.random.Generator, objects: tuple[SceneObject, ...], difficulty: Difficulty
) -> tuple[Query, ...]:
    """Return queries about the objects, no text twice; fewer when the scene allows no more."""
    view = View(rng, objects, difficulty)
    count = int(rng.integers(difficulty.queries[0], difficulty.queries[1] + 1))
    found: dict[str, Query] = {}
    if difficulty.pairs == "held_out":
        first = _held_out(view)
        found[first.text] = first
    for number in range(count):
        absent = rng.random() < difficulty.absent_share
        if len(found) <= number:
            query = _draw(view, found, absent=absent)
            if query is not None:
                found[query.text] = query
    return tuple(found.values())


def deny(
    rng: np.random.Generator,
    objects: tuple[SceneObject, ...],
    difficulty: Difficulty,
    asked: Sequence[Query],
) -> Query | None:
    """Return one more query, about something absent; None where the scene allows no more."""
    return _draw(View(rng, objects, difficulty), {one.text: one for one in asked}, absent=True)


def _draw(view: View, found: Mapping[str, Query], *, absent: bool) -> Query | None:
    """Draw a kind, and a query of it; another kind where the scene has none after some tries."""
    kinds = [kind for kind, _ in view.difficulty.kinds]
    weights = np.array([weight for _, weight in view.difficulty.kinds])
    makers = _ABSENT if absent else _PRESENT
    for _ in range(_TRIES):
        kind = kinds[int(view.rng.choice(len(kinds), p=weights / weights.sum()))]
        for _ in range(view.difficulty.patience):
            query = makers[kind](view)
            if query is not None and _is_wanted(query, found, view):
                return query
    return None


def _is_wanted(query: Query, found: Mapping[str, Query], view: View) -> bool:
    """Return whether it is new, and its targets together are not larger than one may be."""
    knobs = view.difficulty
    area = sum(view.objects[number].area for number in query.targets)
    same = query.present and any(other.targets == query.targets for other in found.values())
    repeated = query.text in found or (knobs.distinct and same)
    return not repeated and not (knobs.only_shared and area > knobs.target_area[1])


def _held_out(view: View) -> Query:
    for item in view.objects:
        if is_held_out(item.color, item.shape, view.difficulty):
            return _named(view, item.color, item.shape)
    message = "a scene of held-out pairs has none: target_area leaves no room for its first object"
    raise ValueError(message)


def _named(view: View, color: str, shape: str) -> Query:
    targets = tuple(view.having(color, shape))
    if len(targets) > 1:
        text = phrases.wrap_many(view.rng, phrases.plural(view.rng, color, shape))
        return Query(text, "count", targets)
    return Query(
        phrases.wrap(view.rng, phrases.noun(view.rng, color, shape)), "color_shape", targets
    )


def _one(view: View, kind: QueryKind, color: str | None, shape: str | None) -> Query | None:
    targets = view.having(color, shape)
    if len(targets) != 1:
        return None
    if view.difficulty.only_shared and kind == "color_shape" and not view.is_shared(color, shape):
        return None
    text = phrases.wrap(view.rng, phrases.noun(view.rng, color, shape))
    return Query(text, kind, tuple(targets))


def _color_shape(view: View) -> Query | None:
    item = view.some_object()
    return _one(view, "color_shape", item.color, item.shape)


def _color(view: View) -> Query | None:
    return _by_one_attribute(view, "color", view.some_object().color, None)


def _shape(view: View) -> Query | None:
    return _by_one_attribute(view, "shape", None, view.some_object().shape)


def _by_one_attribute(
    view: View, kind: QueryKind, color: str | None, shape: str | None
) -> Query | None:
    """Ask for the one object that has the attribute, or, when it has to be shared, for all."""
    if not view.difficulty.only_shared:
        return _one(view, kind, color, shape)
    targets = view.having(color, shape)
    if len(targets) < 2:  # noqa: PLR2004
        return None
    text = phrases.wrap_many(view.rng, phrases.plural(view.rng, color, shape))
    return Query(text, kind, tuple(targets))


def _extreme(values: Sequence[float]) -> tuple[int, float]:
    """Return the index of the largest value and its distance from the second largest."""
    order = np.argsort(values)
    return int(order[-1]), float(values[order[-1]] - values[order[-2]])


def _position(view: View) -> Query | None:
    color, shape, group = group_of(view)
    if len(group) < 2:  # noqa: PLR2004
        return None
    side = phrases.pick(view.rng, tuple(phrases.SIDES))
    best, margin = _extreme([along(view.objects[number], side) for number in group])
    if margin < _MARGIN:
        return None
    pattern = phrases.pick(view.rng, phrases.SIDES[side])
    phrase = pattern.format(phrases.noun(view.rng, color, shape))
    return Query(phrases.wrap(view.rng, phrase), "position", (group[best],))


def _size(view: View) -> Query | None:
    color, shape, group = group_of(view)
    if len(group) < 2:  # noqa: PLR2004
        return None
    word = phrases.pick(view.rng, tuple(phrases.SIZES))
    sign = 1.0 if word == "large" else -1.0
    best, margin = _extreme([sign * float(np.log(view.objects[n].area)) for n in group])
    if margin < np.log(_SIZE_RATIO):
        return None
    pattern = phrases.pick(view.rng, phrases.SIZES[word])
    phrase = pattern.format(phrases.noun(view.rng, color, shape))
    return Query(phrases.wrap(view.rng, phrase), "size", (group[best],))


def _relation(view: View) -> Query | None:
    found = neighbors(view)
    if found is None:
        return None
    gaps, alone = found.gaps, len(found.group) < 2  # noqa: PLR2004
    beyond = [number for number, gap in zip(found.others, gaps, strict=True) if gap > _MARGIN]
    unclear = any(-0.05 < gap <= _MARGIN for gap in gaps)  # noqa: PLR2004
    if len(beyond) != 1 or unclear or (view.difficulty.only_shared and alone):
        return None
    phrase = related(view, found)
    text = phrases.wrap(view.rng, phrase)
    return Query(text, "relation", tuple(beyond), relation=found.relation)


def _count(view: View) -> Query | None:
    color, shape, group = group_of(view)
    if len(group) < 2 or (color is None and shape is None):  # noqa: PLR2004
        return None
    text = phrases.wrap_many(view.rng, phrases.plural(view.rng, color, shape))
    return Query(text, "count", tuple(group))


def _reasoning(view: View) -> Query | None:
    use = phrases.pick(view.rng, tuple(phrases.USES))
    group = [n for n, item in enumerate(view.objects) if item.shape in phrases.USES[use]]
    if view.difficulty.only_shared:
        return _reasoning_by_color(view, use, group)
    if len(group) != 1:
        return None
    return Query(phrases.wrap(view.rng, f"thing that {use}"), "reasoning", tuple(group))


def _reasoning_by_color(view: View, use: str, group: list[int]) -> Query | None:
    """Ask for one of several things of that use by a color that others have too."""
    if len(group) < 2:  # noqa: PLR2004
        return None
    color = view.objects[group[int(view.rng.integers(len(group)))]].color
    chosen = [number for number in group if view.objects[number].color == color]
    if len(chosen) != 1 or len(view.having(color, None)) < 2:  # noqa: PLR2004
        return None
    text = phrases.wrap(view.rng, f"{color} thing that {use}")
    return Query(text, "reasoning", tuple(chosen))


_Maker = Callable[[View], Query | None]
_PRESENT: dict[QueryKind, _Maker] = {
    "color_shape": _color_shape,
    "color": _color,
    "shape": _shape,
    "size": _size,
    "position": _position,
    "relation": _relation,
    "count": _count,
    "reasoning": _reasoning,
}
_ABSENT: dict[QueryKind, _Maker] = {
    "color_shape": absences.absent_color_shape,
    "color": absences.absent_color,
    "shape": absences.absent_shape,
    "size": absences.absent_size,
    "position": absences.absent_position,
    "relation": absences.absent_relation,
    "count": absences.absent_count,
    "reasoning": absences.absent_reasoning,
}
