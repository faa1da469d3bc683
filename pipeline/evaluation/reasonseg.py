"""ReasonSeg: pictures with a JSON file of the same name beside each.

The JSON holds ``text`` (queries), ``is_sentence``, ``shapes`` (``label`` and ``points``) and, in
the set with false premises, ``false_premise_QA`` (query, whether it is a sentence, answer). As in
the published evaluation, the first text and the first false premise are asked.
"""

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from pipeline.errors import InputError
from pipeline.evaluation.checked import checked
from pipeline.evaluation.places import first_folder
from pipeline.evaluation.samples import Sample
from pipeline.evaluation.truth import IGNORED, NoObject, Polygon, PolygonTruth
from pipeline.records import QueryForm

SUFFIXES = (".jpg", ".jpeg", ".png")
_FURTHEST = 1_000_000

Coordinate = Annotated[float, Field(ge=-_FURTHEST, le=_FURTHEST, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]


class _Shape(BaseModel):
    label: str
    points: Annotated[list[tuple[Coordinate, Coordinate]], Field(min_length=1)]


class _Annotation(BaseModel):
    text: Annotated[list[Text], Field(min_length=1)]
    is_sentence: bool
    shapes: list[_Shape]
    false_premise_QA: list[tuple[Text, bool, str]] = []  # noqa: N815  (the format's own name)


def read_reasonseg(root: Path, split: str) -> list[Sample]:
    """Return the queries of a split, in the order of the pictures' names.

    Raises:
        InputError: there is no such split, a picture has no JSON, or one is wrong.
    """
    places = [root / split, root / "ReasonSeg" / split, root / "reason_seg" / "ReasonSeg" / split]
    folder = first_folder(places, f"the {split!r} split of ReasonSeg")
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not images:
        raise InputError(f"{folder}: holds no pictures ({', '.join(SUFFIXES)})")
    return [sample for image in images for sample in _samples(image, root)]


def _samples(image: Path, root: Path) -> list[Sample]:
    annotation = _read(image.with_suffix(".json"))
    truth = PolygonTruth(
        tuple(Polygon(shape.label, tuple(shape.points)) for shape in annotation.shapes)
    )
    name = image.relative_to(root).as_posix()
    text = annotation.text[0].strip()
    query = text if annotation.is_sentence else text.lower()
    form = _form(annotation.is_sentence)
    samples = [Sample(image, name, query, form, present=_has_target(truth), truth=truth)]
    for false, is_sentence, _ in annotation.false_premise_QA[:1]:
        form = _form(is_sentence)
        samples.append(Sample(image, name, false.strip(), form, present=False, truth=NoObject()))
    return samples


def _form(is_sentence: bool) -> QueryForm:
    return "sentence" if is_sentence else "phrase"


def _has_target(truth: PolygonTruth) -> bool:
    return any(polygon.value != IGNORED for polygon in truth.polygons if not polygon.deprecated)


def _read(path: Path) -> _Annotation:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        annotation = json.loads(_decoded(content))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON: {error}") from error
    return checked(_Annotation, annotation, str(path))


def _decoded(content: bytes) -> str:
    """Return the text; some of the published files are in Windows' Western encoding."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252")
