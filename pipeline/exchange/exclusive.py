"""Labels that exclude each other: every pixel that several of them claim goes to one.

Mask logits are not stored, so whole masks compete, not pixels. The stronger answer keeps its mask
whole; of equally strong ones the smaller, because a small thing mostly lies in front of a large
one; of equally large ones the label that its group names first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline import masks
from pipeline.exchange.records import Answer

EDITED, ACCEPTED = 1.0, 0.0
"""Strength of a correction whose mask a person has drawn or changed, and of any other."""


@dataclass
class Overlaps:
    """What was taken from the weaker masks: ``images`` and ``masks`` touched, and ``pixels``.

    ``emptied`` masks lost all they had.
    """

    images: int = 0
    masks: int = 0
    pixels: int = 0
    emptied: int = 0


def without_overlaps(
    answers: Sequence[Answer], groups: Sequence[Sequence[str]], overlaps: Overlaps
) -> tuple[Answer, ...]:
    """Return an image's answers, of which those of one group share no pixel.

    Args:
        answers: of one image, all of one size.
        groups: labels that exclude each other.
        overlaps: counts what is taken away.
    """
    changed: dict[str, Answer] = {}
    for group in groups:
        members = [answer for answer in answers if answer.present and answer.label in group]
        if len(members) > 1:
            changed |= _settled(members, group, overlaps)
    overlaps.images += bool(changed)
    return tuple(changed.get(answer.label, answer) for answer in answers)


def _settled(
    members: Sequence[Answer], group: Sequence[str], overlaps: Overlaps
) -> dict[str, Answer]:
    """Return the answers that lose pixels, with what is left to them, by label."""
    ordered = sorted(
        members, key=lambda row: (-row.strength, masks.area(row.mask), group.index(row.label))
    )
    taken = np.zeros((members[0].mask.height, members[0].mask.width), dtype=np.bool_)
    changed = {}
    for answer in ordered:
        mask = masks.decode(answer.mask)
        lost = int((mask & taken).sum())
        if lost:
            left = mask & ~taken
            changed[answer.label] = replace(answer, mask=masks.encode(left))
            overlaps.masks += 1
            overlaps.pixels += lost
            overlaps.emptied += not left.any()
        taken |= mask
    return changed
