"""Queries for what a scene has not: the denial names what is there instead."""

from workers.scenes import phrases
from workers.scenes.records import Query, QueryKind
from workers.scenes.view import View, neighbors, related


def _instead(view: View, color: str | None, shape: str | None) -> str | None:
    """Return the name of the object nearest to what was asked for: same shape, else same color."""
    for wanted in ((None, shape), (color, None)):
        group = view.having(*wanted) if wanted != (None, None) else []
        if group:
            return view.objects[group[int(view.rng.integers(len(group)))]].name
    return None


def _deny(view: View, kind: QueryKind, color: str | None, shape: str | None) -> Query | None:
    if view.having(color, shape) or not view.is_allowed(color, shape):
        return None
    phrase = phrases.noun(view.rng, color, shape)
    plain = f"{color} {shape}" if color and shape else color or shape or ""
    named = plain if shape else f"{plain} object"
    told = phrases.denial(named, _instead(view, color, shape))
    return Query(phrases.wrap(view.rng, phrase), kind, (), told)


def _any_color(view: View) -> str:
    return phrases.pick(view.rng, view.difficulty.colors)


def _any_shape(view: View) -> str:
    return phrases.pick(view.rng, view.difficulty.shapes)


def absent_color_shape(view: View) -> Query | None:
    """Deny a pair: mostly both parts are there apart, else one is, seldom none."""
    if view.difficulty.only_shared:
        return _deny(view, "color_shape", view.some_object().color, view.some_object().shape)
    choice = view.rng.random()
    color = view.some_object().color if choice < 0.75 else _any_color(view)  # noqa: PLR2004
    near = choice < 0.4 or 0.75 < choice < 0.95  # noqa: PLR2004
    shape = view.some_object().shape if near else _any_shape(view)
    return _deny(view, "color_shape", color, shape)


def absent_color(view: View) -> Query | None:
    """Deny a color; where attributes have to be shared, of a shape that has it not."""
    if view.difficulty.only_shared:
        return _deny(view, "color", view.some_object().color, view.some_object().shape)
    return _deny(view, "color", _any_color(view), None)


def absent_shape(view: View) -> Query | None:
    """Deny a shape; where attributes have to be shared, in a color that it has not."""
    if view.difficulty.only_shared:
        return _deny(view, "shape", view.some_object().color, view.some_object().shape)
    return _deny(view, "shape", None, _any_shape(view))


def absent_position(view: View) -> Query | None:
    """Deny what would lie furthest to a side."""
    side = phrases.pick(view.rng, tuple(phrases.SIDES))
    return _decorate(view, "position", phrases.pick(view.rng, phrases.SIDES[side]))


def absent_size(view: View) -> Query | None:
    """Deny what would be the largest or the smallest."""
    word = phrases.pick(view.rng, tuple(phrases.SIZES))
    return _decorate(view, "size", phrases.pick(view.rng, phrases.SIZES[word]))


def _decorate(view: View, kind: QueryKind, pattern: str) -> Query | None:
    plain = absent_shape(view) if view.rng.random() < 0.5 else absent_color_shape(view)  # noqa: PLR2004
    if plain is None:
        return None
    named = plain.denial.removeprefix("No, there is no ").split(" here")[0]
    return Query(phrases.wrap(view.rng, pattern.format(named)), kind, (), plain.denial)


def absent_relation(view: View) -> Query | None:
    """Deny the anchor of a relation: what is asked for may be there, its neighbor is not.

    Where attributes have to be shared both are there, and the relation is not.
    """
    if view.difficulty.only_shared:
        return _absent_neighbor(view)
    anchor = absent_color_shape(view)
    if anchor is None:
        return None
    named = anchor.denial.removeprefix("No, there is no ").split(" here")[0]
    item = view.some_object()
    word = phrases.pick(
        view.rng, phrases.RELATIONS[phrases.pick(view.rng, tuple(phrases.RELATIONS))]
    )
    phrase = f"{phrases.noun(view.rng, None, item.shape)} {word} the {named}"
    return Query(phrases.wrap(view.rng, phrase), "relation", (), anchor.denial)


def _absent_neighbor(view: View) -> Query | None:
    found = neighbors(view)
    if found is None:
        return None
    others = found.others
    if len(found.group) < 2 or not others or any(gap > -0.05 for gap in found.gaps):  # noqa: PLR2004
        return None
    phrase = related(view, found)
    there = view.objects[others[int(view.rng.integers(len(others)))]].name
    text, denial = phrases.wrap(view.rng, phrase), phrases.denial(phrase, there)
    return Query(text, "relation", (), denial, found.relation)


def absent_count(view: View) -> Query | None:
    """Deny several things of a color and a shape."""
    color, shape = _any_color(view), _any_shape(view)
    if view.difficulty.only_shared:
        color, shape = view.some_object().color, view.some_object().shape
    if view.having(color, shape) or not view.is_allowed(color, shape):
        return None
    told = phrases.denial(f"{color} {shape}", _instead(view, color, shape))
    text = phrases.wrap_many(view.rng, phrases.plural(view.rng, color, shape))
    return Query(text, "count", (), told)


def absent_reasoning(view: View) -> Query | None:
    """Deny a thing of some use."""
    use = phrases.pick(view.rng, tuple(phrases.USES))
    if view.difficulty.only_shared:
        return _absent_reasoning_by_color(view, use)
    known = [shape for shape in phrases.USES[use] if shape in view.difficulty.shapes]
    if not known or any(view.having(None, shape) for shape in phrases.USES[use]):
        return None
    told = phrases.denial(f"thing that {use}", view.some_object().name)
    return Query(phrases.wrap(view.rng, f"thing that {use}"), "reasoning", (), told)


def _absent_reasoning_by_color(view: View, use: str) -> Query | None:
    """Deny a color of what has the use: others have the color, others the use, none has both."""
    fitting = [item for item in view.objects if item.shape in phrases.USES[use]]
    color = view.some_object().color
    known = [shape for shape in phrases.USES[use] if shape in view.difficulty.shapes]
    if not fitting or any(item.color == color for item in fitting):
        return None
    if not all(view.is_allowed(color, shape) for shape in known):
        return None
    there = fitting[int(view.rng.integers(len(fitting)))].name
    phrase = f"{color} thing that {use}"
    return Query(phrases.wrap(view.rng, phrase), "reasoning", (), phrases.denial(phrase, there))
