"""From an image's predictions to tasks: JSON that Label Studio takes, and what it must hold.

One task is one image with its queries: ``data`` for the interface, and one prediction with a mask
region, its points as children, and a verdict for each query. Ids follow from the predictions'
keys, so the same prediction always makes the same regions.
"""

import hashlib
import json
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import cv2
import numpy as np
from numpy.typing import NDArray

from labelstudio import brush
from labelstudio.interface import IMAGE, MASK, POINTS, negative, positive, slug, verdict
from labelstudio.publishing.showing import Showing, unit
from labelstudio.publishing.spread import shown_points
from labelstudio.settings import LabelStudioSettings
from pipeline import masks
from pipeline.records import Arm, Prediction

Json = dict[str, Any]

COARSEST = 16
COARSE_NOTE = "shown in squares of {} pixels"
SHOWING = Showing()
_POINT_WIDTH = 0.8
_DATA_BYTES = 600


@dataclass(frozen=True, slots=True)
class Regions:
    """What one prediction puts on a task: its ``regions`` and the mask that they show.

    ``mask`` is None when the query is absent. ``coarseness`` is 1, or the side in pixels of the
    squares that a mask was reduced to because it would not have fitted into a task.
    """

    prediction: Prediction
    regions: tuple[Json, ...]
    mask: NDArray[np.bool_] | None
    coarseness: int
    size: int


@dataclass(frozen=True, slots=True)
class TaskPayload:
    """One task before it has an image address.

    ``key`` is the task's identity, whatever the model version; ``digest`` is
    :func:`image_digest` of all predictions of its image, which has ``siblings`` tasks in all.
    ``score`` and ``arm`` are what a :class:`labelstudio.publishing.showing.Showing` says about it.
    """

    key: str
    image: str
    digest: str
    siblings: int
    parts: tuple[Regions, ...]
    score: float
    arm: Arm

    @property
    def model_version(self) -> str:
        """Version of the model whose predictions these are."""
        return self.parts[0].prediction.model_version

    @property
    def prediction_keys(self) -> tuple[str, ...]:
        """Keys of the predictions, in the order of the queries."""
        return tuple(part.prediction.key for part in self.parts)

    def data(self, address: str) -> Json:
        """Return the task's data for an image that the browser finds at ``address``.

        It is the same for every version of the model.
        """
        rows = [part.prediction for part in self.parts]
        return {
            IMAGE: address,
            "key": self.key,
            "name": unquote(posixpath.basename(self.image)),
            "queries": "\n".join(f"{row.label}: {row.query}" for row in rows),
            "texts": {slug(row.label): row.query for row in rows},
            "arm": self.arm,
        }

    def predictions(self) -> list[Json]:
        """Return the prediction with the regions of all queries; none if they are withheld."""
        if self.arm == "blank":
            return []
        regions = [region for part in self.parts for region in part.regions]
        return [{"model_version": self.model_version, "score": self.score, "result": regions}]

    def body(self, address: str) -> bytes:
        """Return the JSON of the task with its prediction."""
        return _dump({"data": self.data(address), "predictions": self.predictions()})

    def prediction_bodies(self, task: int) -> list[bytes]:
        """Return the JSON of the prediction for a task that is there; none if it is withheld."""
        return [_dump({**shown, "task": task}) for shown in self.predictions()]


def tasks_of(
    predictions: Sequence[Prediction],
    run: str,
    settings: LabelStudioSettings,
    showing: Showing = SHOWING,
) -> list[TaskPayload]:
    """Return an image's tasks: one, or more where limits or a label used twice ask for it.

    Each prediction goes to the first task that has room for it, in their order, so that no query
    is lost and the split is the same every time.

    Args:
        predictions: all predictions of one image, of one model version; not empty.
        run: name of the run, part of the tasks' identity.
        settings: limits on queries, bytes and points.
        showing: who sees them, and in which order.
    """
    assert len({(row.image_id, row.model_version) for row in predictions}) == 1
    groups: list[list[Regions]] = []
    for row in predictions:
        part = regions_of(row, settings)
        room = (group for group in groups if _has_room(group, part, settings))
        group = next(room, None)
        if group is None:
            groups.append(group := [])
        group.append(part)
    return [
        TaskPayload(
            key=task_key(run, predictions[0].image_id, number),
            image=predictions[0].image,
            digest=image_digest(predictions, showing),
            siblings=len(groups),
            parts=tuple(group),
            score=unit(showing.score([part.prediction for part in group])),
            arm=showing.arm(predictions),
        )
        for number, group in enumerate(groups)
    ]


def task_key(run: str, image_id: str, number: int) -> str:
    """Return the identity of the task for an image's query group ``number``."""
    return _hash(run, image_id, str(number))


def image_digest(predictions: Sequence[Prediction], showing: Showing = SHOWING) -> str:
    """Return what changes when an image's tasks have to show something else."""
    arm = showing.arm(predictions)
    return f"{arm} {_hash(*(row.key for row in predictions), showing.name)}"


def regions_of(row: Prediction, settings: LabelStudioSettings) -> Regions:
    """Return the regions of one prediction, its mask as fine as ``task_bytes`` allows."""
    if not row.present:
        absent = (_verdict(row, "absent"),)
        return Regions(row, absent, None, 1, _size(row, absent))
    full = masks.decode(row.mask)
    coarseness, mask = 1, full
    while True:
        shown = (
            mask_region(row, mask, coarseness),
            *_points(row, settings),
            _verdict(row, "present"),
        )
        size = _size(row, shown)
        if size <= settings.task_bytes or coarseness >= COARSEST:
            return Regions(row, shown, mask, coarseness, size)
        coarseness *= 2
        mask = coarse(full, coarseness)


def coarse(mask: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Return ``mask`` (H, W) made of squares of ``side`` pixels, each what most of it was."""
    height, width = mask.shape
    small = cv2.resize(
        mask.astype(np.float32),
        (max(1, width // side), max(1, height // side)),
        interpolation=cv2.INTER_AREA,
    )
    large = cv2.resize(
        (small >= 0.5).astype(np.uint8),  # noqa: PLR2004
        (width, height),
        interpolation=cv2.INTER_NEAREST,
    )
    return large.astype(np.bool_)


def region_id(key: str, part: str) -> str:
    """Return the id of a part (``mask``, ``verdict`` or ``point 3``) of a prediction.

    A verdict's is the prediction's key itself: every query has one, so a task and what people
    make of it say which rows of the table they are about.
    """
    return key if part == "verdict" else _hash(key, part)[:16]


def _has_room(group: list[Regions], part: Regions, settings: LabelStudioSettings) -> bool:
    labels = {other.prediction.label for other in group}
    size = sum(other.size for other in group) + part.size + _DATA_BYTES
    return (
        len(group) < settings.queries_per_task
        and size <= settings.task_bytes
        and part.prediction.label not in labels
    )


def mask_region(row: Prediction, mask: NDArray[np.bool_], coarseness: int) -> Json:
    """Return the region of a prediction's mask, which may be another than the predicted one."""
    region = _region(row, "mask", "brushlabels", MASK) | {
        "value": {"format": "rle", "rle": brush.encode(mask), "brushlabels": [row.label]},
        "score": unit(row.predicted_iou),
    }
    if coarseness > 1:
        region["meta"] = {"text": [COARSE_NOTE.format(coarseness)]}
    return region


def _points(row: Prediction, settings: LabelStudioSettings) -> list[Json]:
    regions = []
    for place in shown_points(row.points, settings.points_per_sign):
        point = row.points[place]
        name = positive(row.label) if point.label == 1 else negative(row.label)
        value = {
            "x": _percent(point.x, row.width),
            "y": _percent(point.y, row.height),
            "width": _POINT_WIDTH,
            "keypointlabels": [name],
        }
        region = _region(row, f"point {place}", "keypointlabels", POINTS)
        parent = {"parentID": region_id(row.key, "mask"), "score": unit(point.similarity)}
        regions.append(region | {"value": value} | parent)
    return regions


def _verdict(row: Prediction, choice: str) -> Json:
    region = _region(row, "verdict", "choices", verdict(row.label))
    return region | {"value": {"choices": [choice]}}


def _region(row: Prediction, part: str, kind: str, control: str) -> Json:
    return {
        "id": region_id(row.key, part),
        "type": kind,
        "from_name": control,
        "to_name": IMAGE,
        "original_width": row.width,
        "original_height": row.height,
        "image_rotation": 0,
    }


def _percent(pixels: float, side: int) -> float:
    return min(max(100 * pixels / side, 0.0), 100.0)


def _size(row: Prediction, regions: Sequence[Mapping[str, Any]]) -> int:
    """Return the bytes that a prediction adds to a task: its regions and its part of the data."""
    names = [row.query] * 2 + [row.label] * 3
    return len(_dump([*regions, *names]))


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _hash(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()[:32]
