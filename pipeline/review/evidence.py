"""What people said about a run's predictions, image by image, with what the model knew.

Images are taken as independent of each other unless they come in groups (frames of one video):
everything that is concluded treats a *unit*, an image or a group, as one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pipeline.plan import Plan
from pipeline.records import Arm, Correction, Prediction
from pipeline.review.policy import is_later, is_rejection, training_corrections
from pipeline.review.priority import Features, features_of
from pipeline.review.settings import Independent
from pipeline.storage.tables import PredictionTables

FEWEST_GROUPS = 20


class InGroup(Protocol):
    """Something about an image that may have relatives."""

    @property
    def image_id(self) -> str:
        """The image."""

    @property
    def group(self) -> str:
        """What keeps related images together."""


@dataclass(frozen=True, slots=True)
class Example:
    """A prediction and what a person made of it.

    ``iou`` is that of both, 0 if the prediction was called wrong and left.
    """

    key: str
    label: str
    features: Features
    iou: float
    seconds: float


@dataclass(frozen=True, slots=True)
class ReviewedImage:
    """An image that people have worked on.

    ``complete``: every prediction that it has was judged. ``updated_at`` is the last change.
    """

    image_id: str
    group: str
    arm: Arm
    complete: bool
    examples: tuple[Example, ...]
    updated_at: datetime


def reviewed_images(
    plan: Plan, corrections: Iterable[Correction], tables: PredictionTables
) -> list[ReviewedImage]:
    """Return the images of a run on whose present predictions people have worked.

    Args:
        plan: all that the run asks.
        corrections: the latest revision of each; of several for one prediction, the one that
            :func:`pipeline.review.policy.training_corrections` chooses counts, unless the
            prediction was called wrong and left later.
        tables: where the predictions are.
    """
    asked = set(plan.keys)
    judged = _judgements([row for row in corrections if row.key in asked])
    wanted = [
        key for keys in plan.keys_by_image() if not judged.keys().isdisjoint(keys) for key in keys
    ]
    queries = set(wanted)
    wanted += [other for other, of in plan.rewordings.items() if of in queries]
    return [
        _reviewed(rows, plan.rewordings, judged)
        for rows in tables.read_by_image(wanted)
        if any(row.key in judged for row in rows)
    ]


def split_rewordings(
    rows: Iterable[Prediction], rewordings: Mapping[str, str]
) -> tuple[list[Prediction], dict[str, list[Prediction]]]:
    """Return the predictions of queries, and those of other wordings by the key of their query."""
    own: list[Prediction] = []
    others: dict[str, list[Prediction]] = {}
    for row in rows:
        if row.key in rewordings:
            others.setdefault(rewordings[row.key], []).append(row)
        else:
            own.append(row)
    return own, others


def units(images: Sequence[InGroup], independent: Independent) -> dict[str, str]:
    """Return the unit of each image, by image id.

    ``auto`` takes groups when the images come from :data:`FEWEST_GROUPS` of them or more: with
    fewer, nothing could be concluded, and a folder of loose photographs is no group.
    """
    groups = {image.group for image in images}
    by_group = independent == "group" or (independent == "auto" and len(groups) >= FEWEST_GROUPS)
    return {image.image_id: image.group if by_group else image.image_id for image in images}


def _judgements(rows: Sequence[Correction]) -> dict[str, Correction]:
    """Return the one correction of each prediction that says how good it is, by its key."""
    judged = {row.key: row for row in training_corrections(rows)}
    for row in filter(is_rejection, rows):
        if row.key not in judged or is_later(row, judged[row.key]):
            judged[row.key] = row
    return judged


def _reviewed(
    rows: Sequence[Prediction], rewordings: Mapping[str, str], judged: Mapping[str, Correction]
) -> ReviewedImage:
    own, others = split_rewordings(rows, rewordings)
    said = [(row, judged[row.key]) for row in own if row.key in judged]
    return ReviewedImage(
        image_id=rows[0].image_id,
        group=rows[0].group,
        arm=said[0][1].arm,
        complete=len(said) == len(own),
        examples=tuple(_example(row, by, others.get(row.key, ())) for row, by in said),
        updated_at=max(by.updated_at for _, by in said),
    )


def _example(row: Prediction, by: Correction, others: Sequence[Prediction]) -> Example:
    iou = 0.0 if is_rejection(by) else by.iou
    return Example(row.key, row.label, features_of(row, others), iou, by.seconds)
