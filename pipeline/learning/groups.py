"""Which side of the split an image is on, decided once and kept for ever.

A group is held out by a hash of its name. What was decided is written into each snapshot and read
back by the next, so that no later change (more pictures, other settings) moves an image from one
side to the other.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.draws import chance, drawn
from pipeline.learning.likeness import Clusters, near_pairs
from pipeline.learning.settings import DataSettings
from pipeline.records import Split
from pipeline.storage.addresses import locate
from pipeline.storage.training_sets import Assigned, GroupedBy

_FEWEST_FOLDERS = 5


@dataclass(frozen=True, slots=True)
class Picture:
    """An image to assign. ``group`` is its manifest's or its folder; ``likeness`` 0 if unknown."""

    image_id: str
    uri: str
    group: str
    likeness: int = 0

    @property
    def has_own_group(self) -> bool:
        """Whether a manifest names its group; otherwise that is the folder's address."""
        return self.group not in ("", locate(self.uri).parent.uri)


@dataclass(frozen=True, slots=True)
class Sides:
    """The assigned images, those of before included, and those that may be on neither side."""

    assigned: dict[str, Assigned]
    between: frozenset[str]


def choose_grouping(pictures: Sequence[Picture], settings: DataSettings) -> GroupedBy:
    """Return how images without a group of their own are grouped, for a store's first snapshot."""
    if settings.grouping != "auto":
        return settings.grouping
    folders = {picture.group for picture in pictures if not picture.has_own_group}
    return "folder" if len(folders) >= _FEWEST_FOLDERS else "likeness"


def assign(
    pictures: Sequence[Picture],
    known: Mapping[str, Assigned],
    grouping: GroupedBy,
    settings: DataSettings,
) -> Sides:
    """Assign new images to groups and groups to sides.

    An image that is near to pictures on both sides would carry one over to the other: it is on
    neither, and looked at again next time.
    """
    new = [picture for picture in pictures if picture.image_id not in known]
    alike = [one for one in new if grouping == "likeness" and not one.has_own_group]
    named = {one.image_id: one.group for one in new} | _clustered(alike, known, settings)
    between = frozenset(image for image, group in named.items() if not group)
    sides: dict[str, Split] = {row.group: row.split for row in known.values()}
    _choose_sides(sides, {group for group in named.values() if group}, settings)
    likeness = {one.image_id: one.likeness for one in new}
    assigned = dict(known) | {
        image: Assigned(image, group, sides[group], likeness[image])
        for image, group in sorted(named.items())
        if group
    }
    return Sides(assigned, between)


def side_of(group: str, settings: DataSettings) -> Split:
    """Return the side that a group's name hashes to."""
    return "holdout" if drawn("holdout", group, settings.holdout) else "train"


def _choose_sides(sides: dict[str, Split], groups: set[str], settings: DataSettings) -> None:
    """Add the sides of new groups; of several, at least one is held out."""
    for group in groups:
        sides.setdefault(group, side_of(group, settings))
    if len(sides) > 1 and "holdout" not in sides.values():
        candidates = groups & {group for group, side in sides.items() if side == "train"}
        if candidates == set(sides):  # nothing was learned from any of them yet
            sides[min(candidates, key=lambda group: chance("holdout", group))] = "holdout"


def _clustered(
    new: Sequence[Picture], known: Mapping[str, Assigned], settings: DataSettings
) -> dict[str, str]:
    """Return the group of each new picture by likeness; empty if it is between two sides."""
    old = [row for row in known.values() if row.likeness]
    new = sorted(new, key=lambda picture: picture.image_id)
    hashes = np.array(
        [row.likeness for row in old] + [picture.likeness for picture in new], np.uint64
    )
    clusters = Clusters(len(hashes))
    for one, other in near_pairs(hashes, settings.similar_bits):
        if other >= len(old):  # what was assigned before stays apart
            clusters.join(one, other)
    neighbors: dict[int, list[Assigned]] = defaultdict(list)
    for place, row in enumerate(old):
        neighbors[clusters.find(place)].append(row)
    names = {}
    for place, picture in enumerate(new, start=len(old)):
        root = clusters.find(place)
        near = neighbors.get(root, [])
        if len({row.split for row in near}) > 1:
            names[picture.image_id] = ""
        else:
            names[picture.image_id] = near[0].group if near else new[root - len(old)].image_id
    return names
