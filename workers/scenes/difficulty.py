"""How hard scenes are: one record of knobs, and the two settings in use."""

from dataclasses import dataclass
from typing import Literal

from workers.scenes.records import QueryKind

EASY_COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
EASY_SHAPES = (
    "circle",
    "square",
    "triangle",
    "star",
    "heart",
    "cross",
    "ring",
    "house",
    "tree",
    "fish",
    "car",
    "cup",
)
HARD_SHAPES = (*EASY_SHAPES, "moon", "diamond", "arrow", "bottle", "boat", "mushroom", "key")


@dataclass(frozen=True, slots=True)
class Difficulty:
    """Knobs of the scene generator.

    Attributes:
        objects: fewest and most objects in a scene.
        target_area: smallest and largest outline area, as shares of the picture.
        long_side: shortest and longest longer side, in pixels.
        short_side: shortest shorter side, in pixels; the longer one grows for it.
        aspect: narrowest and widest ratio of width to height.
        hidden_share: largest share of an object that others may cover.
        least_visible: smallest visible area of an object, as a share of the picture.
        texture: strength of background texture, 0 (plain) to 1.
        colors: names of the colors in use.
        shapes: names of the shapes in use.
        queries: fewest and most queries about a scene.
        absent_share: share of the queries whose object is absent, on average.
        least_absent: least share of them in a set that is written, however small: it asks for
            more where fewer were drawn.
        kinds: relative frequency of each kind of query.
        patience: tries at a query of one kind before another kind is drawn.
        central: keep every object's center inside the central square, which is all that the
            language model sees.
        shared_share: share of scenes that draw from few colors and shapes, so that objects share.
        only_shared: name only attributes that several objects have; of an absent thing, only
            those that objects have apart. One color or shape alone then names several objects.
        distinct: never ask for the same objects twice.
        pairs: which (color, shape) pairs may appear; ``training`` leaves out the held-out ones,
            ``held_out`` puts one into every scene and asks for it first.
    """

    objects: tuple[int, int] = (2, 5)
    target_area: tuple[float, float] = (0.03, 0.12)
    long_side: tuple[int, int] = (320, 960)
    short_side: int = 1
    aspect: tuple[float, float] = (0.7, 1.45)
    hidden_share: float = 0.05
    least_visible: float = 0.0
    texture: float = 0.5
    colors: tuple[str, ...] = EASY_COLORS
    shapes: tuple[str, ...] = EASY_SHAPES
    queries: tuple[int, int] = (5, 5)
    absent_share: float = 0.3
    least_absent: float = 0.0
    kinds: tuple[tuple[QueryKind, float], ...] = (
        ("color_shape", 5.0),
        ("color", 2.0),
        ("shape", 2.5),
        ("size", 1.0),
        ("position", 1.5),
        ("relation", 0.6),
        ("count", 0.5),
        ("reasoning", 0.6),
    )
    patience: int = 1
    central: bool = True
    shared_share: float = 0.5
    only_shared: bool = False
    distinct: bool = False
    pairs: Literal["all", "training", "held_out"] = "all"


EASY = Difficulty()
HARD = Difficulty(
    objects=(4, 10),
    target_area=(0.0055, 0.148),
    long_side=(200, 1600),
    short_side=200,
    aspect=(0.5, 2.0),
    hidden_share=0.4,
    least_visible=0.0053,
    absent_share=0.32,
    least_absent=0.25,
    patience=25,
    texture=1.0,
    colors=(*EASY_COLORS, "pink", "brown"),
    shapes=HARD_SHAPES,
    kinds=(
        ("color_shape", 3.0),
        ("color", 1.0),
        ("shape", 1.0),
        ("size", 2.0),
        ("position", 2.0),
        ("relation", 3.0),
        ("count", 1.5),
        ("reasoning", 1.0),
    ),
    shared_share=1.0,
    only_shared=True,
)
DIFFICULTIES = {"easy": EASY, "hard": HARD}


def is_held_out(color: str, shape: str, difficulty: Difficulty) -> bool:
    """Return whether training never shows this pair: one shape in eight for each color."""
    position = difficulty.colors.index(color) * 5 + difficulty.shapes.index(shape)
    return position % 8 == 3  # noqa: PLR2004
