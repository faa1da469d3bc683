"""What a person submitted, as the server tells it: checked once, then typed.

Drafts are not among a task's annotations: Label Studio keeps them apart until they are submitted.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from labelstudio.client import Project

Region = Mapping[str, Any]


class AnnotationError(ValueError):
    """An annotation that cannot be read: a region that is broken or of a foreign kind."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotation of one task.

    ``annotator`` is the number of the person who submitted it first, as text; ``cancelled`` means
    skipped. ``seconds`` is the work so far, all submissions together, 0 when nobody measured it.
    """

    number: int
    task: int
    created_at: datetime
    updated_at: datetime
    annotator: str
    cancelled: bool
    seconds: float
    regions: tuple[Region, ...]


def parse_annotation(row: Mapping[str, Any]) -> Annotation:
    """Return an annotation from the server's JSON.

    Raises:
        AnnotationError: something in it is missing or of another type; names the annotation.
    """
    try:
        regions = tuple(row["result"] or ())
        if not all(isinstance(region, Mapping) for region in regions):
            raise TypeError("a region is not an object")
        return Annotation(
            number=int(row["id"]),
            task=int(row["task"]),
            created_at=datetime.fromisoformat(row["created_at"]),
            updated_at=datetime.fromisoformat(row["updated_at"]),
            annotator=_person(row["completed_by"]),
            cancelled=bool(row["was_cancelled"]),
            seconds=max(0.0, float(row["lead_time"] or 0)),
            regions=regions,
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        number = row.get("id")
        raise AnnotationError(f"annotation {number} cannot be read: {error!r}") from error


def correction_id(project: Project, annotation: Annotation, label: str) -> str:
    """Return the id of what an annotation says about a label, the same for all its revisions.

    Its three parts name the project, the annotation and the label. Servers reuse numbers, so
    projects and annotations are known by number and creation time.
    """
    return f"{project_part(project)}-{annotation_part(annotation)}-{_hash([label], 8)}"


def project_part(project: Project) -> str:
    """Return what the ids of a project's corrections begin with."""
    return _hash([str(project.id), project.created_at], 12)


def annotation_part(annotation: Annotation) -> str:
    """Return the middle of the ids of an annotation's corrections."""
    return _hash([str(annotation.number), annotation.created_at.isoformat()], 16)


def _person(value: object) -> str:
    """Return the number of a person, told alone or with the rest about them."""
    return str(value["id"] if isinstance(value, Mapping) else value or "")


def _hash(parts: Sequence[str], digits: int) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:digits]
