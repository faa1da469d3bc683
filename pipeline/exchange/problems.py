"""What of an import's source cannot be taken: counted by kind, the first ones told."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal[
    "unmatched", "twice", "unreadable", "unfit", "empty_mask", "unknown_category", "not_asked"
]
_TOLD = 8
_LONGEST = 400


@dataclass
class Problems:
    """Counts of problems.

    ``unmatched`` images are not (or not clearly) of the run, ``twice`` named ones come twice,
    ``unreadable`` ones cannot be decoded by us, ``unfit`` ones have masks of another size or
    damaged ones; masks have no pixel (``empty_mask``), are of an ``unknown_category``, or of a
    label that is ``not_asked`` there.
    """

    counts: Counter[Kind] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)
    _keys: set[tuple[Kind, str]] = field(default_factory=set)

    def add(self, kind: Kind, key: str, message: str) -> None:
        """Count a problem; keep its message if its key is one of the first of its kind."""
        self.counts[kind] += 1
        told = sum(1 for known, _ in self._keys if known == kind)
        if told < _TOLD and (kind, key) not in self._keys:
            self._keys.add((kind, key))
            self.told.append(_printable(message[:_LONGEST]))

    def text(self) -> str:
        """Return all that is known, a line each."""
        counted = ", ".join(f"{count} {kind}" for kind, count in self.counts.items())
        return "\n".join([counted.replace("_", " "), *(f"  {line}" for line in self.told)])


def _printable(text: str) -> str:
    """Return what a terminal may show of a text that somebody else wrote."""
    return "".join(character if character.isprintable() else "?" for character in text)
