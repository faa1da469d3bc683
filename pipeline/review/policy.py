"""Which correction of a (image, query) trains, and how far its annotators agree.

The policy, which training sets name (:data:`POLICY`), in this order:

1. Corrections that were skipped or deleted never train, nor do those of a picture whose content
   was replaced since (another ``etag`` than that of the picture's latest correction).
2. Of one annotator the latest counts.
3. Of several annotators it is the one that agrees most with the others: the highest mean IoU with
   them, an absent object being an empty mask. Equal ones (always so between two): the latest.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from pipeline import masks
from pipeline.records import Correction
from pipeline.storage.corrections import TEACHES_NOTHING

POLICY = "latest of a person, most agreeing of several"


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far annotators agree, over all pairs of them that worked on the same query.

    ``queries`` have several annotators, who make ``pairs``. ``iou`` is the mean IoU of a pair's
    masks (1 where both are empty), ``presence`` the share of pairs that agree whether the object is
    there; both are None without a pair.
    """

    queries: int
    pairs: int
    iou: float | None
    presence: float | None


class _Unit(NamedTuple):
    image: str
    label: str
    query: str


def training_corrections(rows: Iterable[Correction]) -> list[Correction]:
    """Return the one correction of each (image, query) that trains, in the order of the rows.

    Args:
        rows: the latest revision of each correction, as
            :meth:`pipeline.storage.corrections.CorrectionTable.latest` gives them.
    """
    return [_chosen(candidates) for candidates in _by_unit(rows)]


def agreement(rows: Iterable[Correction]) -> Agreement:
    """Return how far annotators agree; ``rows`` as for :func:`training_corrections`."""
    shared = [candidates for candidates in _by_unit(rows) if len(candidates) > 1]
    pairs = [pair for candidates in shared for pair in combinations(candidates, 2)]
    if not pairs:
        return Agreement(0, 0, None, None)
    overlap = sum(_iou(*pair) for pair in pairs) / len(pairs)
    presence = sum(one.present == other.present for one, other in pairs) / len(pairs)
    return Agreement(len(shared), len(pairs), overlap, presence)


def is_rejection(row: Correction) -> bool:
    """Return whether somebody called the prediction that they saw wrong, and left it."""
    return (row.verdict, row.choice, row.arm) == ("skipped", "wrong", "shown")


def is_later(row: Correction, other: Correction) -> bool:
    """Return whether a correction was made after another; equal times have one order as well."""
    return (row.updated_at, row.id) > (other.updated_at, other.id)


def _by_unit(rows: Iterable[Correction]) -> list[list[Correction]]:
    """Return the corrections that may train, those of one (image, query) together, one a person."""
    etags: dict[str, Correction] = {}
    units: dict[_Unit, dict[str, Correction]] = {}
    for row in rows:
        if row.verdict in TEACHES_NOTHING:
            continue
        if row.image_id not in etags or is_later(row, etags[row.image_id]):
            etags[row.image_id] = row
        unit = units.setdefault(_Unit(row.image_id, row.label, row.query), {})
        if row.annotator not in unit or is_later(row, unit[row.annotator]):
            unit[row.annotator] = row
    current = (
        [row for row in unit.values() if row.etag == etags[row.image_id].etag]
        for unit in units.values()
    )
    return [candidates for candidates in current if candidates]


def _chosen(candidates: Sequence[Correction]) -> Correction:
    def rank(row: Correction) -> tuple[float, object, str]:
        others = [other for other in candidates if other is not row]
        together = sum(_iou(row, other) for other in others) / max(1, len(others))
        return round(together, 9), row.updated_at, row.id

    return max(candidates, key=rank)


def _iou(one: Correction, other: Correction) -> float:
    """Return the IoU of two masks; of different sizes (a picture turned in between) it is 0."""
    if (one.height, one.width) != (other.height, other.width):
        return 0.0
    return masks.iou(one.mask, other.mask)
