"""Expected IoU from features: a small JSON document on the store, numbered, never changed.

``<store>/review/calibration/000001.json`` and so on; the highest number that was made for a model
version counts for it. No code is stored, only the curve's numbers.
"""

import re
from datetime import datetime
from typing import Annotated, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from pipeline.errors import StorageError
from pipeline.review.priority import Features, hand_made
from pipeline.settings import Settings
from pipeline.storage.store import Store

FOLDER = "review/calibration"
_NAME = re.compile(r"/(\d{6})\.json$")
_MAX_BYTES = 10_000_000
COLUMNS = (
    "present",
    "certainty",
    "predicted_iou",
    "stability",
    "agreement",
    "reworded",
    "rewording",
)


class Isotonic(Settings):
    """A rising curve over :func:`pipeline.review.priority.hand_made`, straight between points."""

    kind: Literal["isotonic"] = "isotonic"
    score: Annotated[tuple[float, ...], Field(min_length=1)]
    iou: Annotated[tuple[float, ...], Field(min_length=1)]

    def expected_iou(self, features: Features) -> float:
        """Return the height of the curve."""
        return float(np.interp(hand_made(features), self.score, self.iou))


class Logistic(Settings):
    """A logistic regression over :data:`COLUMNS`."""

    kind: Literal["logistic"] = "logistic"
    weights: Annotated[tuple[float, ...], Field(min_length=len(COLUMNS), max_length=len(COLUMNS))]
    intercept: float

    def expected_iou(self, features: Features) -> float:
        """Return the regression's value."""
        value = float(columns(features) @ np.array(self.weights)) + self.intercept
        return float(1 / (1 + np.exp(-np.clip(value, -50, 50))))


Curve = Annotated[Isotonic | Logistic, Field(discriminator="kind")]


class Acceptance(Settings):
    """From which expected IoU on images need not be seen, and what that was concluded from.

    Of ``images`` over the threshold ``wrong`` held a mask below ``iou``; the share is at most
    ``bound`` (one-sided, with ``confidence``), which is at most ``error``.
    """

    threshold: float
    iou: float
    error: float
    confidence: float
    images: int
    wrong: int
    bound: float


class Calibration(Settings):
    """How to read the features of one model version's predictions."""

    format: Literal[1] = 1
    number: int
    model_version: str
    made_at: datetime
    corrections: int
    curve: Curve
    acceptance: Acceptance | None

    def expected_iou(self, features: Features) -> float:
        """Return the IoU, in [0, 1], that a correction of such a prediction has on average."""
        return min(max(self.curve.expected_iou(features), 0.0), 1.0)


class AuditStop(Settings):
    """Why the rule of a calibration is off: what the audit found after it was made."""

    calibration: int
    images: int
    wrong: int
    evidence: float
    stopped_at: datetime


Document = TypeVar("Document", Calibration, AuditStop)


def columns(features: Features) -> NDArray[np.float64]:
    """Return features as numbers in the order of :data:`COLUMNS`."""
    known = features.rewording is not None
    return np.array(
        [
            features.present,
            features.certainty,
            features.predicted_iou,
            features.stability,
            features.agreement,
            known,
            features.rewording or 0.0,
        ],
        dtype=np.float64,
    )


class CalibrationShelf:
    """The calibrations of a store.

    Every method raises :class:`StorageError` when the store fails or a document is not ours.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def next_number(self) -> int:
        """Return a number that no calibration has yet."""
        return max(self._numbers(), default=0) + 1

    def latest(self, model_version: str) -> Calibration | None:
        """Return the calibration that counts for a model version, None if there is none."""
        for number in sorted(self._numbers(), reverse=True):
            found = self._read(Calibration, _path(number))
            if found.model_version == model_version:
                return found
        return None

    def write(self, calibration: Calibration) -> str:
        """Store a calibration under its number; return where it lies.

        Raises:
            StorageError: the number is taken: another process calibrates at the same time.
        """
        path = _path(calibration.number)
        if not self._store.put_new(path, calibration.model_dump_json(indent=1).encode()):
            raise StorageError(
                f"{self._store.uri}/{path}: another process has just calibrated; run again"
            )
        return f"{self._store.uri}/{path}"

    def stopped(self, calibration: Calibration) -> AuditStop | None:
        """Return why the audit has turned the rule of a calibration off, None if it has not."""
        path = _stop_path(calibration.number)
        return self._read(AuditStop, path) if self._store.exists(path) else None

    def stop(self, stop: AuditStop) -> None:
        """Turn the rule of a calibration off, for ever."""
        self._store.put_new(_stop_path(stop.calibration), stop.model_dump_json(indent=1).encode())

    def _numbers(self) -> list[int]:
        names = (_NAME.search(info.uri) for info in self._store.list(FOLDER))
        return [int(name[1]) for name in names if name]

    def _read(self, kind: type[Document], path: str) -> Document:
        try:
            return kind.model_validate_json(self._store.get(path, _MAX_BYTES))
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            raise StorageError(
                f"{self._store.uri}/{path}: is not a calibration of this version of readloop "
                f"({'.'.join(map(str, first['loc']))}: {first['msg']}); remove it and calibrate"
            ) from error


def _path(number: int) -> str:
    return f"{FOLDER}/{number:06d}.json"


def _stop_path(number: int) -> str:
    return f"{FOLDER}/{number:06d}.stopped.json"
