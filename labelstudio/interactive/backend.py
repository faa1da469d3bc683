"""The answers to Label Studio's messages, given something that makes masks."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from labelstudio.interactive.memory import Memory
from labelstudio.interactive.points import query_points
from labelstudio.interactive.request import PointRegion, PredictRequest, parse
from labelstudio.interface import ASKED, IMAGE, POINTS, negative, positive, slug
from labelstudio.publishing.payload import mask_region, region_id, regions_of
from labelstudio.settings import LabelStudioSettings
from pipeline.errors import InputError
from pipeline.records import Prediction

Json = dict[str, Any]


class Refined(Protocol):
    """A mask (H, W) and SAM's predicted IoU of it."""

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Which pixels are inside."""

    @property
    def predicted_iou(self) -> float:
        """What SAM thinks of it."""


class MaskMaker(Protocol):
    """What a backend needs of a model."""

    @property
    def version(self) -> str:
        """Name of the weights in use."""

    def prediction(self, key: str) -> Prediction | None:
        """Return the stored prediction with that key."""

    def refine(
        self, row: Prediction, kept: Sequence[int], placed: Sequence[tuple[float, float, int]]
    ) -> Refined:
        """Make the mask of a prediction's ``[SEG]`` vectors with some of its points and others.

        ``kept`` are places in its points, ``placed`` are (x, y) in pixels and the sign.
        """

    def ask(self, row: Prediction, label: str, query: str) -> Prediction:
        """Answer a new query about the image of ``row``; the same one again is not computed."""


class Backend:
    """Answers one message at a time; reading and answering may be in different threads.

    Args:
        masks: the model.
        settings: how the tasks were published.
        most_points: bound on the points of a request.
    """

    def __init__(
        self, masks: MaskMaker, settings: LabelStudioSettings, *, most_points: int
    ) -> None:
        self._masks = masks
        self._settings = settings
        self._most_points = most_points
        self._memory = Memory()

    def read(self, body: object) -> PredictRequest:
        """Read the body of a ``/predict`` message and take note of it.

        Raises:
            InputError: it is not one, or holds too much.
        """
        request = parse(body, most_points=self._most_points)
        self._memory.see(request)
        return request

    def nothing(self) -> Json:
        """Return the answer that leaves everything in the browser as it is.

        An empty list of regions would not: the browser takes it for an answer, and deletes the
        points that were drawn since the last one.
        """
        return {"results": [{}]}

    def answer(self, request: PredictRequest) -> Json:
        """Return what the browser shows next; nothing for a task that withholds predictions.

        Raises:
            InputError: the request is about a prediction that is not in the table, or about a
                question that was never asked or cannot be.
            StorageError: a store failed.
        """
        if request.blank:
            return self.nothing()
        if request.points:
            regions = self._refined(request, [request.points[-1].label])
        elif request.asked:
            regions = [*self._asked(request), *self._refined(request, [])]
        else:
            return self.nothing()
        if not regions:
            return self.nothing()
        return {"results": [{"result": regions, "model_version": self._masks.version}]}

    def _refined(self, request: PredictRequest, clicked: Sequence[str]) -> list[Json]:
        """Return the masks of the clicked queries and all others with new points, and those points.

        A new point of a query that has no mask here is returned alone, so that it stays.
        """
        waiting = self._memory.undelivered(request)
        regions: list[Json] = []
        for label in clicked:
            regions += self._query(request, label, waiting)
        for label in sorted({point.label for point in waiting} - {*clicked}):
            try:
                regions += self._query(request, label, waiting)
            except InputError:
                row = self._any_row(request)
                regions += [_held(row, point, "") for point in waiting if point.label == label]
        self._memory.deliver(request, waiting)
        return regions

    def _query(
        self, request: PredictRequest, label: str, waiting: Sequence[PointRegion]
    ) -> list[Json]:
        row = self._row(request, label)
        parent = region_id(row.key, "mask")
        current = [
            point for point in self._memory.current(request, label) if point.parent in ("", parent)
        ]
        held = [_held(row, point, parent) for point in waiting if point.label == label]
        return [self._mask(row, current), *held]

    def _mask(self, row: Prediction, current: Sequence[PointRegion]) -> Json:
        points = query_points(row, current, self._settings.points_per_sign)
        refined = self._masks.refine(row, points.kept, points.placed)
        shown = replace(row, predicted_iou=refined.predicted_iou)
        region = mask_region(shown, refined.mask, 1) | {"origin": "prediction-changed"}
        return region | ({"meta": {"text": [row.query]}} if row.label == ASKED else {})

    def _asked(self, request: PredictRequest) -> list[Json]:
        row = self._masks.ask(self._any_row(request), ASKED, request.asked[-1])
        return [
            region
            | {"origin": "prediction"}
            | ({"meta": {"text": [row.query]}} if region["type"] == "brushlabels" else {})
            for region in regions_of(row, self._settings).regions
            if region["type"] != "choices"  # a question has no verdict
        ]

    def _row(self, request: PredictRequest, label: str) -> Prediction:
        if label == ASKED:
            question = self._memory.asked(request)
            if not question:
                raise InputError(f"nothing was asked yet that {ASKED!r} could stand for")
            return self._masks.ask(self._any_row(request), ASKED, question)
        for key in request.keys.get(slug(label), ()):
            row = self._masks.prediction(key)
            if row is not None and row.label == label:
                return row
        raise InputError(f"the task's prediction of {label[:60]!r} is not in the table")

    def _any_row(self, request: PredictRequest) -> Prediction:
        for key in (key for keys in request.keys.values() for key in keys):
            if row := self._masks.prediction(key):
                return row
        raise InputError("none of the task's predictions is in the table")


def _held(row: Prediction, point: PointRegion, parent: str) -> Json:
    """Return a person's point as it came, but settled: a child of its mask, if it has one."""
    name = positive(point.label) if point.sign == 1 else negative(point.label)
    region = {
        "id": point.id,
        "type": "keypointlabels",
        "from_name": POINTS,
        "to_name": IMAGE,
        "original_width": row.width,
        "original_height": row.height,
        "image_rotation": 0,
        "origin": point.origin,
        "value": {"x": point.x, "y": point.y, "width": point.width, "keypointlabels": [name]},
    }
    return region | ({"parentID": parent} if parent else {})
