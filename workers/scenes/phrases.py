"""The words of queries and denials: noun phrases, ways to ask, uses of things."""

from typing import TypeVar

import numpy as np

from workers.scenes.records import Side

_Text = TypeVar("_Text", bound=str)

# What a reasoning query may ask for, and which shapes answer it.
USES: dict[str, tuple[str, ...]] = {
    "could roll": ("circle",),
    "can swim": ("fish",),
    "has leaves": ("tree",),
    "you could live in": ("house",),
    "you could drive": ("car",),
    "you could drink from": ("cup",),
    "stands for love": ("heart",),
    "you could wear on a finger": ("ring",),
    "shines in the night sky": ("star", "moon"),
    "points somewhere": ("arrow",),
    "holds a drink": ("cup", "bottle"),
    "sails on water": ("boat",),
    "opens a lock": ("key",),
    "grows in the forest": ("tree", "mushroom"),
    "has three corners": ("triangle",),
    "has four equal sides": ("square", "diamond"),
}
_THINGS = ("object", "thing", "shape", "item")
_PLURALS = {"fish": "fish", "cross": "crosses"}
SIDES: dict[Side, tuple[str, ...]] = {
    "left": ("leftmost {}", "{} on the left", "{} furthest to the left", "left {}"),
    "right": ("rightmost {}", "{} on the right", "{} furthest to the right", "right {}"),
    "top": ("topmost {}", "{} at the top", "highest {}", "upper {}"),
    "bottom": ("lowest {}", "{} at the bottom", "bottommost {}", "lower {}"),
}
SIZES = {
    "large": ("largest {}", "biggest {}", "big {}", "large {}"),
    "small": ("smallest {}", "small {}", "little {}", "tiny {}"),
}
RELATIONS: dict[Side, tuple[str, ...]] = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "top": ("above", "over"),
    "bottom": ("below", "under"),
}
_QUESTIONS = (
    "Where is {}?",
    "Can you find {}?",
    "Which one is {}?",
    "Please show me {}.",
    "Segment {}.",
    "I am looking for {}.",
    "Could you point at {}?",
    "Show {} in the picture.",
)
_MANY_QUESTIONS = ("Where are {}?", "Can you find {}?", "Please show me {}.", "Segment {}.")


def pick(rng: np.random.Generator, options: tuple[_Text, ...]) -> _Text:
    """Return one of the options at random."""
    return options[int(rng.integers(len(options)))]


def noun(rng: np.random.Generator, color: str | None, shape: str | None) -> str:
    """Return a noun phrase without article: "red circle", "circle that is red", "red thing"."""
    head = shape or pick(rng, _THINGS)
    if color is None:
        return head
    if shape is not None and rng.random() < 0.15:  # noqa: PLR2004
        return f"{shape} that is {color}"
    return f"{color} {head}"


def plural(rng: np.random.Generator, color: str | None, shape: str | None) -> str:
    """Return a plural noun phrase: "red circles", "green fish", "red objects"."""
    head = shape or pick(rng, _THINGS)
    many = _PLURALS.get(head, f"{head}s")
    return many if color is None else f"{color} {many}"


def wrap(rng: np.random.Generator, phrase: str) -> str:
    """Return a definite phrase as a query: bare, with article, or as a sentence."""
    choice = rng.random()
    if choice < 0.5:  # noqa: PLR2004
        return f"the {phrase}"
    if choice < 0.7:  # noqa: PLR2004
        return phrase
    return pick(rng, _QUESTIONS).format(f"the {phrase}")


def wrap_many(rng: np.random.Generator, phrase: str) -> str:
    """Return a phrase for several objects as a query: "all the red circles", "Where are ...?"."""
    whole = pick(
        rng, (f"all the {phrase}", f"the {phrase}", f"all {phrase}", f"every one of the {phrase}")
    )
    return whole if rng.random() < 0.7 else pick(rng, _MANY_QUESTIONS).format(whole)  # noqa: PLR2004


def article(phrase: str) -> str:
    """Return a noun phrase with its indefinite article."""
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"


def denial(phrase: str, instead: str | None) -> str:
    """Return the answer for an absent object, naming what is there in its place."""
    told = f"No, there is no {phrase} here"
    return f"{told}." if instead is None else f"{told}, but there is {article(instead)}."
