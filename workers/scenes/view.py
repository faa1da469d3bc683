"""What the makers of queries look at: objects, knobs and the random stream, and who fits what."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workers.scenes import phrases
from workers.scenes.difficulty import Difficulty, is_held_out
from workers.scenes.records import Relation, SceneObject, Side


@dataclass(frozen=True, slots=True)
class View:
    """What the query functions look at: the random stream, the objects, the knobs."""

    rng: np.random.Generator
    objects: tuple[SceneObject, ...]
    difficulty: Difficulty

    def having(self, color: str | None, shape: str | None) -> list[int]:
        """Return the objects of that color and shape, whichever is given."""
        return [
            number
            for number, item in enumerate(self.objects)
            if color in {None, item.color} and shape in {None, item.shape}
        ]

    def some_object(self) -> SceneObject:
        """Return one at random."""
        return self.objects[int(self.rng.integers(len(self.objects)))]

    def is_allowed(self, color: str | None, shape: str | None) -> bool:
        """Return whether training may speak of this pair: held-out ones are not even denied."""
        if self.difficulty.pairs != "training" or color is None or shape is None:
            return True
        return not is_held_out(color, shape, self.difficulty)

    def is_shared(self, color: str | None, shape: str | None) -> bool:
        """Return whether every named attribute belongs to at least two objects."""
        named = ([color, None], [None, shape])
        return all(len(self.having(*pair)) > 1 for pair in named if pair != [None, None])


def group_of(view: View) -> tuple[str | None, str | None, list[int]]:
    """Return a description and its objects: by color, by shape, by both, or all of them."""
    item = view.some_object()
    color, shape = [
        (item.color, None),
        (None, item.shape),
        (item.color, item.shape),
        (None, None),
    ][int(view.rng.integers(4))]
    return color, shape, view.having(color, shape)


def along(item: SceneObject, side: Side) -> float:
    """Return how far an object lies to a side, in shares of the picture's shorter side."""
    return {"left": -item.x, "right": item.x, "top": -item.y, "bottom": item.y}[side]


@dataclass(frozen=True, slots=True)
class Neighbors:
    """An anchor that its name singles out, a description, and a side.

    ``group`` are all that fit the description, ``others`` those of them other than the anchor, and
    ``gaps`` tell how far each of these lies beyond it.
    """

    anchor: int
    color: str | None
    shape: str | None
    side: Side
    group: Sequence[int]
    others: Sequence[int]
    gaps: Sequence[float]

    @property
    def relation(self) -> Relation:
        """What a query about them asks for; there have to be others."""
        foremost = self.others[int(np.argmax(self.gaps))]
        return Relation(self.anchor, self.side, foremost)


def neighbors(view: View) -> Neighbors | None:
    """Draw an anchor that its name singles out, a description, and a side."""
    anchor = view.some_object()
    if len(view.having(anchor.color, anchor.shape)) != 1:
        return None
    if view.difficulty.only_shared and not view.is_shared(anchor.color, anchor.shape):
        return None
    color, shape, group = group_of(view)
    side = phrases.pick(view.rng, tuple(phrases.RELATIONS))
    others = [number for number in group if view.objects[number] is not anchor]
    gaps = [along(view.objects[n], side) - along(anchor, side) for n in others]
    (number,) = view.having(anchor.color, anchor.shape)
    return Neighbors(number, color, shape, side, group, others, gaps)


def related(view: View, found: Neighbors) -> str:
    """Return what is described, and its relation to the anchor, as a noun phrase."""
    word = phrases.pick(view.rng, phrases.RELATIONS[found.side])
    noun = phrases.noun(view.rng, found.color, found.shape)
    return f"{noun} {word} the {view.objects[found.anchor].name}"
