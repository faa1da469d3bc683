"""The records of a scene: its objects, the queries about them, and the picture."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

QueryKind = Literal[
    "color_shape", "color", "shape", "size", "position", "relation", "count", "reasoning"
]


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object; lengths are shares of the picture's shorter side, so they hold at any size.

    ``x`` and ``y`` are its center (origin: the picture's upper left corner), ``scale`` the factor
    from the outline's own units, ``angle`` its turn in degrees, ``area`` the outline's area as a
    share of the picture.
    """

    shape: str
    color: str
    x: float
    y: float
    scale: float
    angle: float
    area: float

    @property
    def name(self) -> str:
        """Return color and shape, as in "red circle"."""
        return f"{self.color} {self.shape}"


Side = Literal["left", "right", "top", "bottom"]


@dataclass(frozen=True, slots=True)
class Relation:
    """Something that shall lie to a ``side`` of an anchor.

    ``anchor`` and ``foremost``, of what else the query says the one furthest to that side, are
    indices into the scene's objects.
    """

    anchor: int
    side: Side
    foremost: int


@dataclass(frozen=True, slots=True)
class Query:
    """A query with its truth.

    ``targets`` are indices into the scene's objects (several: their masks' union; none: absent).
    ``denial`` is what to answer when there is none, empty otherwise. ``relation`` is that of a
    query of this kind, unless its anchor is absent.
    """

    text: str
    kind: QueryKind
    targets: tuple[int, ...]
    denial: str = ""
    relation: Relation | None = None

    @property
    def present(self) -> bool:
        """Return whether the picture holds what the query asks for."""
        return bool(self.targets)


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture, its objects with their visible masks, and queries about it.

    ``image`` is uint8 (H, W, 3) RGB; ``masks`` is bool (objects, H, W), hidden parts left out.
    """

    seed: int
    index: int
    image: NDArray[np.uint8]
    objects: tuple[SceneObject, ...]
    masks: NDArray[np.bool_]
    queries: tuple[Query, ...]

    def mask(self, query: Query) -> NDArray[np.bool_]:
        """Return the union of the query's objects, bool (H, W); all False when it is absent."""
        return np.asarray(self.masks[list(query.targets)].any(axis=0))
