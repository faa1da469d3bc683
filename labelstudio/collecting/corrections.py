"""From an annotation and the predictions of its image to corrections, one a query.

The seconds of an annotation are shared equally among its queries: Label Studio measures the task,
and every query of it has been looked at.
"""

from collections.abc import Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from labelstudio.client import Project
from labelstudio.collecting.annotation import Annotation, AnnotationError, correction_id
from labelstudio.collecting.brushwork import Brushwork, brushwork
from labelstudio.collecting.origin import began_at_none, origins
from labelstudio.collecting.points import corrected_points, places_by_id
from labelstudio.collecting.verdicts import Judged, decide
from labelstudio.interface import VERDICTS, verdict
from labelstudio.publishing.spread import shown_points
from pipeline import masks
from pipeline.boundary import boundary_f
from pipeline.records import Arm, Choice, CorrectedPoint, Correction, Prediction

ShownIds = Callable[[], AbstractSet[str]]
"""Looks up the ids of all regions that the task shows as predicted."""


@dataclass(frozen=True, slots=True)
class Work:
    """What corrections are made from.

    ``shown_now`` are the keys of the predictions that the task shows by now, ``candidates`` all
    predictions of its image. ``points_per_sign`` is how many points are shown unless ``shown_ids``
    knows better, which is only asked when a point seems to be missing.
    """

    project: Project
    annotation: Annotation
    arm: Arm
    shown_now: Collection[str]
    candidates: Sequence[Prediction]
    points_per_sign: int
    shown_ids: ShownIds


def corrections_of(work: Work) -> list[Correction]:
    """Return what an annotation says, one correction a query.

    Raises:
        AnnotationError: a part of it cannot be read; names annotation and task.
    """
    annotation = work.annotation
    try:
        rows = origins(annotation.regions, work.shown_now, work.candidates)
        return [_correction(work, row, annotation.seconds / len(rows)) for row in rows]
    except (AnnotationError, TypeError, AttributeError) as error:
        raise AnnotationError(
            f"annotation {annotation.number} on task {annotation.task}: {error}"
        ) from error


def _correction(work: Work, row: Prediction, seconds: float) -> Correction:
    annotation = work.annotation
    left = brushwork(row, annotation.regions, blank=work.arm == "blank")
    points = corrected_points(row, annotation.regions, _shown(work, row))
    choice = _choice(work, row)
    said, present = decide(_judged(work, row, left, points, choice))
    mask = masks.encode(left.mask) if present else masks.empty(row.height, row.width)
    return Correction(
        id=correction_id(work.project, annotation, row.label),
        key=row.key,
        project=work.project.id,
        task=annotation.task,
        annotation=annotation.number,
        image_id=row.image_id,
        image=row.image,
        etag=row.etag,
        group=row.group,
        width=row.width,
        height=row.height,
        label=row.label,
        query=row.query,
        model_version=row.model_version,
        arm=work.arm,
        verdict="skipped" if annotation.cancelled else said,
        present=present,
        mask=mask,
        points=points if present else (),
        iou=masks.iou(row.mask, mask),
        boundary_f=boundary_f(left.table, left.mask if present else left.mask & False),
        annotator=annotation.annotator,
        seconds=seconds,
        updated_at=annotation.updated_at,
        choice="" if annotation.cancelled else choice,
    )


def _judged(
    work: Work,
    row: Prediction,
    left: Brushwork,
    points: Sequence[CorrectedPoint],
    choice: Choice,
) -> Judged:
    filled_in: Choice = "present" if row.present else "absent"
    return Judged(
        choice=choice,
        prefilled="" if work.arm == "blank" else filled_in,
        predicted=row.present,
        shown=left.shown,
        drawn=bool(left.mask.any()),
        changed=left.changed,
        overlaps=bool((left.mask & left.table).any()),
        points_changed=any(point.fate != "kept" for point in points),
        own=began_at_none(work.annotation.regions, work.candidates),
    )


def _choice(work: Work, row: Prediction) -> Choice:
    """Return what stands in the verdict control of a query, empty for nothing."""
    for region in work.annotation.regions:
        if region.get("from_name") == verdict(row.label):
            for choice in region["value"].get("choices", ()):
                if choice in VERDICTS:
                    return choice  # type: ignore[no-any-return]
    return ""


def _shown(work: Work, row: Prediction) -> AbstractSet[int]:
    """Return the places of the points that the person saw.

    The settings say how many were shown, unless they were changed since. So when other points are
    left than these, the task's own predictions are looked at, if they are still there.
    """
    if work.arm == "blank" or not row.present:
        return frozenset()
    expected = set(shown_points(row.points, work.points_per_sign))
    places = places_by_id(row)
    ids = {str(region.get("id")) for region in work.annotation.regions}
    if {places[known] for known in ids & places.keys()} == expected:
        return expected
    shown = {places[known] for known in work.shown_ids() & places.keys()}
    return shown or expected
