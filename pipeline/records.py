"""The records that cross a boundary, one frozen type each.

``sources`` make :class:`ImageTasks`, replicas turn each of their tasks into exactly one
:class:`Prediction` or :class:`Failure`, ``labelstudio`` shows predictions to people and brings
back a :class:`Correction` for each that somebody looked at. A training set is frozen as
:class:`Example` rows.
The columns of the stored tables are these fields; ``docs/data.md`` lists them.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

PointLabel = Literal[1, 0, -1]
QueryForm = Literal["auto", "phrase", "sentence"]
"""Which template a query goes into; ``auto`` leaves it to the model's settings."""


@dataclass(frozen=True, slots=True)
class ImageRef:
    """One image in a store, before anybody has read it.

    ``id`` is what identifies the image across runs (its URI, in sources that users name);
    ``uri`` is absolute (``file:///…`` or ``s3://…``); ``size`` is in bytes, 0 when unknown;
    ``etag`` changes when the content does, empty when the object was not found;
    ``group`` keeps related images (frames of one video) on one side of a split.
    """

    id: str
    uri: str
    size: int
    etag: str
    group: str


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for: ``label`` names it in Label Studio, ``text`` is given to the model.

    ``id`` is the name that the user's manifest gives the row, if any; it changes nothing.
    """

    label: str
    text: str
    form: QueryForm = "auto"
    id: str = ""


@dataclass(frozen=True, slots=True)
class LabelTask:
    """The unit of work: one query on one image, with the key its result will carry.

    ``id`` is the name that the user's manifest gives it, if any; it goes into the tables.
    ``rewords`` is the key of the task that this one asks in other words, to compare the answers;
    empty for what the user asked for.
    """

    key: str
    label: str
    query: str
    form: QueryForm = "auto"
    id: str = ""
    rewords: str = ""


@dataclass(frozen=True, slots=True)
class ImageTasks:
    """One image with all of its open queries; never empty.

    ``done`` are its other queries, where a replica may have moved on to a newer model: it then
    answers all of them, so that an image has the answers of one version.
    """

    image: ImageRef
    tasks: tuple[LabelTask, ...]
    done: tuple[LabelTask, ...] = ()


@dataclass(frozen=True, slots=True)
class CurrentModel:
    """What a store's registry says is current: entry ``number`` of its chain, from 1.

    ``version`` is its ``model_version`` and ``source`` the path or address of its weights.
    """

    number: int
    version: str
    source: str


@dataclass(frozen=True, slots=True)
class ModelChange:
    """A replica went from version ``before`` to ``after``, or could not: ``reason`` says why.

    ``before`` is empty where nothing was loaded yet. ``pause`` is in seconds: how long the replica
    answered nothing because of it. ``load`` is how long loading took, in seconds.
    """

    before: str
    after: str
    pause: float
    load: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Rle:
    """A mask in COCO's compressed run-length form: ``height``, ``width`` and ``counts``."""

    height: int
    width: int
    counts: str


@dataclass(frozen=True, slots=True)
class Point:
    """A SasP point: ``x``, ``y`` in pixels of the image as a browser shows it.

    ``label`` is 1 for "inside", 0 for "outside", -1 for neither; ``similarity`` is the
    value of the normalised similarity map there, in [0, 1].
    """

    x: float
    y: float
    label: PointLabel
    similarity: float


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds spent on one unit of work; shared work is divided among the image's queries."""

    fetch: float
    decode: float
    encode: float
    answer: float
    mask: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model makes of one (image, query).

    ``id`` is the name that the row has in the user's manifest, empty without one. ``width`` and
    ``height`` are those of the decoded, upright image. ``mask`` is the union of
    the masks of all ``[SEG]`` tokens in ``answer``, ``points`` are theirs in order and
    ``seg_vectors`` holds one 256-vector a ``[SEG]``; all are empty when ``present`` is False.
    ``seg_probability`` is the highest probability ``[SEG]`` had at any step of the answer;
    ``predicted_iou`` and ``stability`` are the lowest over the masks, 0 when there is none.
    """

    key: str
    id: str
    image_id: str
    image: str
    image_size: int
    etag: str
    group: str
    width: int
    height: int
    label: str
    query: str
    present: bool
    answer: str
    seg_probability: float
    seg_vectors: tuple[tuple[float, ...], ...]
    mask: Rle
    points: tuple[Point, ...]
    predicted_iou: float
    stability: float
    model_version: str
    timings: Timings


FailureStage = Literal["fetch", "decode", "query", "predict"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one (image, query) has no prediction.

    ``retryable`` says that the cause may pass (throttling, a lost connection) or be mended (refused
    access, a mount that is gone): such rows are tried again by the next run, the others only when
    their image or query changes.
    """

    key: str
    id: str
    image_id: str
    image: str
    etag: str
    label: str
    query: str
    stage: FailureStage
    reason: str
    retryable: bool
    model_version: str


Verdict = Literal["accepted", "edited", "redrawn", "absent", "skipped", "deleted"]
"""What a person made of a prediction.

``accepted``: left as it was, be it a mask or an absence. ``edited``: its mask or points changed.
``redrawn``: the mask shares nothing with a predicted one, or there was none. ``absent``: a
predicted object is not there. ``skipped``: the person passed on it. ``deleted``: the annotation
is gone.
"""

Choice = Literal["present", "absent", "wrong", ""]
PointFate = Literal["kept", "moved", "added", "removed", "flipped"]
Arm = Literal["shown", "blank"]
"""Whether the person started from the prediction or from an empty image."""


@dataclass(frozen=True, slots=True)
class CorrectedPoint:
    """A point after a person's work, in pixels of the upright image.

    ``label`` is its present sign, 1 inside and 0 outside. ``from_x``, ``from_y`` is where the
    model had put it; for an added point its own place. A removed point is where it was.
    """

    x: float
    y: float
    label: PointLabel
    fate: PointFate
    from_x: float
    from_y: float


@dataclass(frozen=True, slots=True)
class Correction:
    """What one person says about one (image, query).

    An annotation on a task with several queries is one correction a query. ``id`` is the same for
    every revision of it and of no other; the latest ``updated_at`` counts. ``key`` is that of the
    prediction it started from, ``model_version`` whose that was (both empty for imported masks).
    ``present`` says whether the object is there, ``mask`` is what the person left (empty unless
    present). ``iou`` and ``boundary_f`` compare prediction and correction, 1 where both are
    empty. ``annotator`` names a person or an import; ``seconds`` is the work of this query, its
    share of the annotation's. ``choice`` is what the person chose in the query's verdict control,
    empty for no choice at all and for a skipped task; "wrong" is a prediction that was repaired,
    or was rejected and left if the verdict is "skipped".
    """

    id: str
    key: str
    project: int
    task: int
    annotation: int
    image_id: str
    image: str
    etag: str
    group: str
    width: int
    height: int
    label: str
    query: str
    model_version: str
    arm: Arm
    verdict: Verdict
    present: bool
    mask: Rle
    points: tuple[CorrectedPoint, ...]
    iou: float
    boundary_f: float
    annotator: str
    seconds: float
    updated_at: datetime
    choice: Choice = ""


Split = Literal["train", "holdout", "rested"]
"""``rested`` rows were learned from before and are left out this time."""
Origin = Literal["correction", "replay"]
"""Replayed rows come from other stores: they keep a model from forgetting what it came from."""


@dataclass(frozen=True, slots=True)
class Example:
    """One (image, query) with what is true of it: to learn from, or to be judged by.

    ``id`` is the correction's. ``mask`` is empty unless ``present``, ``answer`` is what the model
    should say. ``weight`` is how much oftener than a row of weight 1 it is shown.
    """

    id: str
    image_id: str
    image: str
    etag: str
    group: str
    split: Split
    origin: Origin
    label: str
    query: str
    present: bool
    mask: Rle
    answer: str
    weight: float


def task_key(image: ImageRef, query: Query, model_version: str, settings: str) -> str:
    """Return the deterministic key of one unit of work, 32 hexadecimal digits.

    ``settings`` is the canonical JSON of everything else that changes a result (template,
    SasP settings, precision). The label is part of the key because it decides where the
    result is shown.
    """
    parts = [image.id, image.etag, query.label, query.text, model_version, settings]
    if query.form != "auto":
        parts.append(query.form)
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return digest.hexdigest()[:32]
