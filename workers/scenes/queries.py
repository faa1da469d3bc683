"""Queries about a scene with their truth: what is asked, which objects answer it, what to deny.

Every kind has one function that lists its possible queries, present and absent; :func:`ask` draws
from them. A query is listed only when its answer is beyond doubt: one object, by a clear margin.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from workers.scenes import phrases
from workers.scenes.difficulty import Difficulty, is_held_out
from workers.scenes.records import Query, QueryKind, SceneObject

_MARGIN = 0.15  # of the shorter side: how clearly an object must lie further to a side
_SIZE_RATIO = 1.6  # of areas: how clearly an object must be larger
_TRIES = 40


@dataclass(frozen=True, slots=True)
class _View:
    """What the query functions look at: the random stream, the objects, the knobs."""

    rng: np.random.Generator
    objects: tuple[SceneObject, ...]
    difficulty: Difficulty

    def having(self, color: str | None, shape: str | None) -> list[int]:
        return [
            number
            for number, item in enumerate(self.objects)
            if color in {None, item.color} and shape in {None, item.shape}
        ]

    def some_object(self) -> SceneObject:
        return self.objects[int(self.rng.integers(len(self.objects)))]

    def is_shared(self, color: str | None, shape: str | None) -> bool:
        """Return whether every named attribute belongs to at least two objects."""
        named = ([color, None], [None, shape])
        return all(len(self.having(*pair)) > 1 for pair in named if pair != [None, None])


def ask(
    rng: np.random.Generator, objects: tuple[SceneObject, ...], difficulty: Difficulty
) -> tuple[Query, ...]:
    """Return queries about the objects, no text twice; fewer when the scene allows no more."""
    view = _View(rng, objects, difficulty)
    kinds = [kind for kind, _ in difficulty.kinds]
    weights = np.array([weight for _, weight in difficulty.kinds])
    count = int(rng.integers(difficulty.queries[0], difficulty.queries[1] + 1))
    found: dict[str, Query] = {}
    if difficulty.pairs == "held_out":
        first = _held_out(view)
        found[first.text] = first
    for number in range(count):
        absent = rng.random() < difficulty.absent_share
        for _ in range(_TRIES if len(found) <= number else 0):
            kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
            query = _ABSENT[kind](view) if absent else _PRESENT[kind](view)
            if query is not None and not _is_repeated(query, found, difficulty):
                found[query.text] = query
                break
    return tuple(found.values())


def _is_repeated(query: Query, found: dict[str, Query], difficulty: Difficulty) -> bool:
    """Return whether the text, or with ``distinct`` the objects asked for, came up before."""
    same = query.present and any(other.targets == query.targets for other in found.values())
    return query.text in found or (difficulty.distinct and same)


def _held_out(view: _View) -> Query:
    for item in view.objects:
        if is_held_out(item.color, item.shape, view.difficulty):
            return _named(view, item.color, item.shape)
    message = "a scene of held-out pairs has none: target_area leaves no room for its first object"
    raise ValueError(message)


def _named(view: _View, color: str, shape: str) -> Query:
    targets = tuple(view.having(color, shape))
    if len(targets) > 1:
        text = phrases.wrap_many(view.rng, phrases.plural(view.rng, color, shape))
        return Query(text, "count", targets)
    return Query(
        phrases.wrap(view.rng, phrases.noun(view.rng, color, shape)), "color_shape", targets
    )


def _one(view: _View, kind: QueryKind, color: str | None, shape: str | None) -> Query | None:
    targets = view.having(color, shape)
    if len(targets) != 1:
        return None
    if view.difficulty.only_shared and kind == "color_shape" and not view.is_shared(color, shape):
        return None
    text = phrases.wrap(view.rng, phrases.noun(view.rng, color, shape))
    return Query(text, kind, tuple(targets))


def _color_shape(view: _View) -> Query | None:
    item = view.some_object()
    return _one(view, "color_shape", item.color, item.shape)


def _color(view: _View) -> Query | None:
    return _one(view, "color", view.some_object().color, None)


def _shape(view: _View) -> Query | None:
    return _one(view, "shape", None, view.some_object().shape)


def _group(view: _View) -> tuple[str | None, str | None, list[int]]:
    """Return a description and its objects: by color, by shape, by both, or all of them."""
    item = view.some_object()
    color, shape = [
        (item.color, None),
        (None, item.shape),
        (item.color, item.shape),
        (None, None),
    ][int(view.rng.integers(4))]
    return color, shape, view.having(color, shape)


def _along(item: SceneObject, side: str) -> float:
    """Return how far an object lies to a side, in shares of the picture's shorter side."""
    return {"left": -item.x, "right": item.x, "top": -item.y, "bottom": item.y}[side]


def _extreme(values: Sequence[float]) -> tuple[int, float]:
    """Return the index of the largest value and its distance from the second largest."""
    order = np.argsort(values)
    return int(order[-1]), float(values[order[-1]] - values[order[-2]])


def _position(view: _View) -> Query | None:
    color, shape, group = _group(view)
    if len(group) < 2:  # noqa: PLR2004
        return None
    side = phrases.pick(view.rng, tuple(phrases.SIDES))
    best, margin = _extreme([_along(view.objects[number], side) for number in group])
    if margin < _MARGIN:
        return None
    pattern = phrases.pick(view.rng, phrases.SIDES[side])
    phrase = pattern.format(phrases.noun(view.rng, color, shape))
    return Query(phrases.wrap(view.rng, phrase), "position", (group[best],))


def _size(view: _View) -> Query | None:
    color, shape, group = _group(view)
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


def _relation(view: _View) -> Query | None:
    anchor = view.some_object()
    if len(view.having(anchor.color, anchor.shape)) != 1:
        return None
    color, shape, group = _group(view)
    side = phrases.pick(view.rng, tuple(phrases.RELATIONS))
    others = [number for number in group if view.objects[number] is not anchor]
    gaps = [_along(view.objects[n], side) - _along(anchor, side) for n in others]
    beyond = [number for number, gap in zip(others, gaps, strict=True) if gap > _MARGIN]
    unclear = any(-0.05 < gap <= _MARGIN for gap in gaps)  # noqa: PLR2004
    if len(beyond) != 1 or unclear or (view.difficulty.only_shared and len(group) < 2):  # noqa: PLR2004
        return None
    word = phrases.pick(view.rng, phrases.RELATIONS[side])
    phrase = f"{phrases.noun(view.rng, color, shape)} {word} the {anchor.name}"
    return Query(phrases.wrap(view.rng, phrase), "relation", tuple(beyond))


def _count(view: _View) -> Query | None:
    color, shape, group = _group(view)
    if len(group) < 2 or (color is None and shape is None):  # noqa: PLR2004
        return None
    text = phrases.wrap_many(view.rng, phrases.plural(view.rng, color, shape))
    return Query(text, "count", tuple(group))


def _reasoning(view: _View) -> Query | None:
    use = phrases.pick(view.rng, tuple(phrases.USES))
    group = [n for n, item in enumerate(view.objects) if item.shape in phrases.USES[use]]
    if len(group) != 1:
        return None
    return Query(phrases.wrap(view.rng, f"thing that {use}"), "reasoning", tuple(group))


def _instead(view: _View, color: str | None, shape: str | None) -> str | None:
    """Return the name of the object nearest to what was asked for: same shape, else same color."""
    for wanted in ((None, shape), (color, None)):
        group = view.having(*wanted) if wanted != (None, None) else []
        if group:
            return view.objects[group[int(view.rng.integers(len(group)))]].name
    return None


def _deny(view: _View, kind: QueryKind, color: str | None, shape: str | None) -> Query | None:
    if view.having(color, shape):
        return None
    phrase = phrases.noun(view.rng, color, shape)
    plain = f"{color} {shape}" if color and shape else color or shape or ""
    named = plain if shape else f"{plain} object"
    told = phrases.denial(named, _instead(view, color, shape))
    return Query(phrases.wrap(view.rng, phrase), kind, (), told)


def _any_color(view: _View) -> str:
    return phrases.pick(view.rng, view.difficulty.colors)


def _any_shape(view: _View) -> str:
    return phrases.pick(view.rng, view.difficulty.shapes)


def _absent_color_shape(view: _View) -> Query | None:
    """Deny a pair: mostly both parts are there apart, else one is, seldom none."""
    choice = view.rng.random()
    color = view.some_object().color if choice < 0.75 else _any_color(view)  # noqa: PLR2004
    near = choice < 0.4 or 0.75 < choice < 0.95  # noqa: PLR2004
    shape = view.some_object().shape if near else _any_shape(view)
    return _deny(view, "color_shape", color, shape)


def _absent_color(view: _View) -> Query | None:
    return _deny(view, "color", _any_color(view), None)


def _absent_shape(view: _View) -> Query | None:
    return _deny(view, "shape", None, _any_shape(view))


def _absent_position(view: _View) -> Query | None:
    side = phrases.pick(view.rng, tuple(phrases.SIDES))
    return _decorate(view, "position", phrases.pick(view.rng, phrases.SIDES[side]))


def _absent_size(view: _View) -> Query | None:
    word = phrases.pick(view.rng, tuple(phrases.SIZES))
    return _decorate(view, "size", phrases.pick(view.rng, phrases.SIZES[word]))


def _decorate(view: _View, kind: QueryKind, pattern: str) -> Query | None:
    plain = _absent_shape(view) if view.rng.random() < 0.5 else _absent_color_shape(view)  # noqa: PLR2004
    if plain is None:
        return None
    named = plain.denial.removeprefix("No, there is no ").split(" here")[0]
    return Query(phrases.wrap(view.rng, pattern.format(named)), kind, (), plain.denial)


def _absent_relation(view: _View) -> Query | None:
    """Deny the anchor of a relation: what is asked for may be there, its neighbor is not."""
    anchor = _absent_color_shape(view)
    if anchor is None:
        return None
    named = anchor.denial.removeprefix("No, there is no ").split(" here")[0]
    item = view.some_object()
    word = phrases.pick(
        view.rng, phrases.RELATIONS[phrases.pick(view.rng, tuple(phrases.RELATIONS))]
    )
    phrase = f"{phrases.noun(view.rng, None, item.shape)} {word} the {named}"
    return Query(phrases.wrap(view.rng, phrase), "relation", (), anchor.denial)


def _absent_count(view: _View) -> Query | None:
    color, shape = _any_color(view), _any_shape(view)
    if view.having(color, shape):
        return None
    told = phrases.denial(f"{color} {shape}", _instead(view, color, shape))
    text = phrases.wrap_many(view.rng, phrases.plural(view.rng, color, shape))
    return Query(text, "count", (), told)


def _absent_reasoning(view: _View) -> Query | None:
    use = phrases.pick(view.rng, tuple(phrases.USES))
    known = [shape for shape in phrases.USES[use] if shape in view.difficulty.shapes]
    if not known or any(view.having(None, shape) for shape in phrases.USES[use]):
        return None
    told = phrases.denial(f"thing that {use}", view.some_object().name)
    return Query(phrases.wrap(view.rng, f"thing that {use}"), "reasoning", (), told)


_Maker = Callable[[_View], Query | None]
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
    "color_shape": _absent_color_shape,
    "color": _absent_color,
    "shape": _absent_shape,
    "size": _absent_size,
    "position": _absent_position,
    "relation": _absent_relation,
    "count": _absent_count,
    "reasoning": _absent_reasoning,
}
