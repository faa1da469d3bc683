"""Random samples that need no memory: an image is drawn by a hash of its name, for ever.

A larger share keeps what a smaller one drew. Draws of different kinds are independent.
"""

import hashlib
from typing import Literal

Kind = Literal["blank", "audit", "reword", "half", "pick", "holdout", "replay"]


def chance(kind: Kind, name: str) -> float:
    """Return a number in [0, 1) that looks random and is always the same for a name."""
    digest = hashlib.sha256(f"{kind}\0{name}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / (1 << 48)


def drawn(kind: Kind, name: str, share: float) -> bool:
    """Return whether a name is in the sample that holds about ``share`` of all."""
    return chance(kind, name) < share
