"""What a ``/predict`` message says: which task, which points, or which question.

Label Studio sends the task with its predictions, annotations and the person's draft, and as
``context`` the regions of one label that the gesture concerned: the new point and all others of the
same label, at their present places. Everything in it is somebody else's: sizes are bounded here,
addresses are never used.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, cast

from labelstudio.interface import ASK, POINTS, VERDICT, negative, positive
from pipeline.errors import InputError
from pipeline.records import PointLabel

Json = Mapping[str, Any]

LONGEST_ID = 64
LONGEST_LABEL = 1_000
LONGEST_QUESTION = 10_000
"""What is longer is cut: the model's own bound on a query is lower."""
MALFORMED = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)
"""What a message of another form makes its parts raise."""

_SAVED_AS = ("drafts", "annotations", "predictions")
_KEYPOINTS, _TEXTS = "keypointlabels", "textarea"


@dataclass(frozen=True, slots=True)
class PointRegion:
    """A point as the browser has it: ``x``, ``y`` in percent of the image.

    ``label`` is the query's label and ``sign`` 1 inside or 0 outside. ``named`` is the sign that
    its label says, which is the other one for an alt-click.
    ``fresh`` says that it was drawn by the smart tool and not yet accepted: the browser deletes
    such a point when it accepts an answer that does not hold it. ``parent`` is its mask's region,
    empty for a point that no answer has held.
    """

    id: str
    label: str
    sign: PointLabel
    named: PointLabel
    x: float
    y: float
    width: float
    origin: str
    parent: str
    fresh: bool


@dataclass(frozen=True, slots=True)
class Saved:
    """The regions of a task as last saved, in a draft, an annotation or the prediction.

    ``stamp`` differs from save to save, in whichever of them; ``keys`` are those of the verdicts,
    by slug, which are the keys of the predictions that the work began with.
    """

    stamp: str
    points: tuple[PointRegion, ...]
    asked: tuple[str, ...]
    keys: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """A gesture on a task.

    ``keys`` are what may be the keys of the predictions, by their label's slug, the most likely
    first. ``points`` are those that travelled, the newest last: all that are named by one label and
    sign. ``asked`` are the questions in the task's text box, the newest last. A message that asks
    nothing (Label Studio sends those when a task opens) has neither. ``blank`` tasks withhold what
    the model says.
    """

    task: int
    key: str
    keys: Mapping[str, tuple[str, ...]]
    points: tuple[PointRegion, ...]
    asked: tuple[str, ...]
    saved: Saved
    blank: bool


def parse(body: object, *, most_points: int) -> PredictRequest:
    """Read the body of a ``/predict`` message.

    Raises:
        InputError: it is not one, or holds more than ``most_points`` points.
    """
    try:
        return _parse(cast("Json", body), most_points)
    except MALFORMED as error:
        raise InputError(f"not a request of Label Studio's: {type(error).__name__}") from error


def _parse(body: Json, most_points: int) -> PredictRequest:
    (task,) = body["tasks"]
    data = task["data"]
    context = (body.get("params") or {}).get("context") or {}
    travelled = context.get("result") or []
    points = _points(travelled, most_points)
    saved = _saved(task, points, most_points)
    return PredictRequest(
        task=int(task["id"]),
        key=_short(data.get("key", "")),
        keys=_candidates(saved.keys, _predicted_keys(task)),
        points=points,
        asked=_asked(travelled),
        saved=saved,
        blank=data.get("arm") == "blank",
    )


def _saved(task: Json, travelled: Sequence[PointRegion], most_points: int) -> Saved:
    """Take the newest draft, without one what the points that travelled were taken from.

    Drafts are the person's own, annotations anybody's: one counts only if it is more like what
    travelled than the prediction shown, and if it can be read. A question is never a prediction's,
    so that the newest one of an annotation counts where the points are the prediction's.
    """
    rows = {kind: _newest_first(task.get(kind) or []) for kind in _SAVED_AS}
    kind = next((kind for kind in _SAVED_AS if rows[kind]), None)
    if kind is None:
        return Saved("", (), (), {})
    last = rows[kind][0]
    stamp = f"{kind} {last.get('id')} {last.get('updated_at')}"
    if rows["drafts"]:
        return _contents(rows["drafts"][0], stamp, most_points)
    predictions = [_contents(row, stamp, most_points) for row in rows["predictions"][:1]]
    annotations = list(_readable(rows["annotations"], stamp, most_points))
    saved = [*predictions, *annotations] or [Saved(stamp, (), (), {})]
    fitting = min(saved, key=lambda one: _differences(one.points, travelled))
    asked = next((one.asked for one in annotations if one.asked), ())
    return replace(fitting, asked=fitting.asked or asked)


def _contents(row: Json, stamp: str, most_points: int) -> Saved:
    result = row.get("result") or []
    return Saved(stamp, _points(result, most_points), _asked(result), _keys(result))


def _readable(rows: Sequence[Json], stamp: str, most_points: int) -> Iterator[Saved]:
    for row in rows:
        with suppress(InputError, *MALFORMED):
            yield _contents(row, stamp, most_points)


def _newest_first(rows: Sequence[Json]) -> list[Json]:
    found = [row for row in rows if isinstance(row, dict)]
    return sorted(found, key=lambda row: str(row.get("updated_at", "")), reverse=True)


def _differences(points: Sequence[PointRegion], travelled: Sequence[PointRegion]) -> int:
    """Count what only one of the two has, or has elsewhere, of the label that travelled."""
    named = {(point.label, point.named) for point in travelled}
    before, now = (
        {(point.id, point.x, point.y) for point in some if (point.label, point.named) in named}
        for some in (points, travelled)
    )
    return len(before ^ now)


def _predicted_keys(task: Json) -> Mapping[str, str]:
    rows = sorted(task.get("predictions") or [], key=lambda row: str(row.get("updated_at", "")))
    return {slug: key for row in rows for slug, key in _keys(row.get("result") or []).items()}


def _keys(regions: Sequence[Json]) -> Mapping[str, str]:
    verdicts = (region for region in regions if region.get("type") == "choices")
    return {
        str(region["from_name"]).removeprefix(VERDICT): _short(region["id"]) for region in verdicts
    }


def _candidates(*sources: Mapping[str, str]) -> Mapping[str, tuple[str, ...]]:
    slugs = {slug for keys in sources for slug in keys}
    return {slug: tuple(keys[slug] for keys in sources if slug in keys) for slug in slugs}


def _points(regions: Sequence[Json], most: int) -> tuple[PointRegion, ...]:
    points = tuple(_point(region) for region in _of_kind(regions, _KEYPOINTS, POINTS))
    if len(points) > most:
        raise InputError(f"{len(points)} points are more than the limit of {most}")
    return points


def _point(region: Json) -> PointRegion:
    value = region["value"]
    label, named = _signed(value["keypointlabels"][0])
    alt = region.get("is_positive") is False  # drawn with the alt key held
    return PointRegion(
        id=_short(region["id"]),
        label=label,
        sign=_other(named) if alt else named,
        named=named,
        x=_percent(value["x"]),
        y=_percent(value["y"]),
        width=_percent(value.get("width", 1)),
        origin=str(region.get("origin", "manual"))[:LONGEST_ID],
        parent=_short(region.get("parentID") or ""),
        fresh="is_positive" in region,
    )


def _signed(name: str) -> tuple[str, PointLabel]:
    for sign, marked in ((1, positive("")), (0, negative(""))):
        if name.endswith(marked) and len(name) <= LONGEST_LABEL:
            return name.removesuffix(marked), cast("PointLabel", sign)
    raise ValueError


def _other(sign: PointLabel) -> PointLabel:
    return 0 if sign == 1 else 1


def _asked(regions: Sequence[Json]) -> tuple[str, ...]:
    texts = [region["value"]["text"] for region in _of_kind(regions, _TEXTS, ASK)]
    return tuple(
        str(line)[:LONGEST_QUESTION]
        for text in texts
        for line in ([text] if isinstance(text, str) else text)
    )


def _of_kind(regions: Sequence[Json], kind: str, control: str) -> Iterator[Json]:
    for region in regions:
        if region.get("type") == kind and region.get("from_name") == control:
            yield region


def _percent(value: object) -> float:
    number = float(cast("float", value))
    if not math.isfinite(number):
        raise ValueError
    return min(max(number, 0.0), 100.0)


def _short(value: object) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_ID:
        raise ValueError
    return value
