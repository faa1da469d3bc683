"""The steps of one image: fetch, decode, predict. Each may fail, as data."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import MissingError, StorageError
from pipeline.records import Failure, FailureStage, ImageTasks, LabelTask, Prediction, Timings
from pipeline.storage.store import ObjectReader
from workers.answers import prediction
from workers.read.errors import ImageError, QueryError
from workers.read.images import decode
from workers.read.prompt import FormedQuery
from workers.settings import LimitSettings

if TYPE_CHECKING:
    from workers.read.engine import Answer

Row = Prediction | Failure
Asked = str | FormedQuery
PREDICT_ERRORS = (ValueError, RuntimeError, ArithmeticError, LookupError, MemoryError)
"""What an engine may raise for one image or query without being broken itself."""


class Engine(Protocol):
    """What a replica needs of a model: see :class:`workers.read.engine.ReadEngine`."""

    version: str
    settings_json: str

    def predict(
        self,
        image: NDArray[np.uint8],
        queries: "Sequence[Asked]",
        *,
        max_query_characters: int,
    ) -> "Sequence[Answer | QueryError]":
        """Return one answer, or the reason against it, a query for an RGB image (H, W, 3)."""
        ...


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a unit of work has no prediction."""

    stage: FailureStage
    reason: str
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Fetched:
    """An image's tasks with its bytes, or what went wrong; ``seconds`` is the wait for them."""

    work: ImageTasks
    content: bytes | Trouble
    seconds: float


def fetch(work: ImageTasks, reader: ObjectReader, limits: LimitSettings) -> Fetched:
    """Read one image's bytes, which must be those that were listed.

    That an image is missing which was there may pass. One that never was (no etag) is settled: once
    it is there, it has other keys.
    """
    start = time.perf_counter()
    content: bytes | Trouble
    try:
        content = reader.get(work.image.uri, limits.image_bytes, work.image.etag)
    except MissingError as error:
        content = Trouble("fetch", str(error), retryable=bool(work.image.etag))
    except StorageError as error:
        content = Trouble("fetch", str(error), error.retryable)
    return Fetched(work, content, time.perf_counter() - start)


def label_image(fetched: Fetched, engine: Engine, limits: LimitSettings, version: str) -> list[Row]:
    """Turn an image's tasks into rows, one each and in their order.

    Raises:
        RuntimeError: the engine's device is broken; nothing more can be done in this process.
    """
    work = fetched.work
    start = time.perf_counter()
    image = _decoded(fetched.content, limits)
    if isinstance(image, Trouble):
        return [failure(work, task, image, version) for task in work.tasks]
    shared = Timings(fetched.seconds, time.perf_counter() - start, 0.0, 0.0, 0.0)
    answers = answer_all(engine, image, [_asked(task) for task in work.tasks], limits)
    return [
        failure(work, task, answer, version)
        if isinstance(answer, Trouble)
        else prediction(
            work.image,
            task,
            answer,
            size=(image.shape[0], image.shape[1]),
            model_version=version,
            timings=_timings(shared, answer, len(work.tasks)),
        )
        for task, answer in zip(work.tasks, answers, strict=True)
    ]


def failure(work: ImageTasks, task: LabelTask, trouble: Trouble, version: str) -> Failure:
    """Return the record of a unit of work that has no prediction."""
    image = work.image
    return Failure(
        key=task.key,
        id=task.id,
        image_id=image.id,
        image=image.uri,
        etag=image.etag,
        label=task.label,
        query=task.query,
        stage=trouble.stage,
        reason=trouble.reason,
        retryable=trouble.retryable,
        model_version=version,
    )


def _asked(task: LabelTask) -> Asked:
    return task.query if task.form == "auto" else FormedQuery(task.query, task.form)


def _decoded(content: bytes | Trouble, limits: LimitSettings) -> NDArray[np.uint8] | Trouble:
    if isinstance(content, Trouble):
        return content
    try:
        return decode(content, limits.image_pixels)
    except ImageError as error:
        return Trouble("decode", str(error))


def answer_all(
    engine: Engine, image: NDArray[np.uint8], queries: Sequence[Asked], limits: LimitSettings
) -> "list[Answer | Trouble]":
    """Ask all queries in one pass, or one by one if that fails: one may spoil it for the rest."""
    try:
        return _ask(engine, image, queries, limits)
    except PREDICT_ERRORS as error:
        if is_device_fault(error):
            raise
    return [_ask_alone(engine, image, query, limits) for query in queries]


def _ask_alone(
    engine: Engine, image: NDArray[np.uint8], query: Asked, limits: LimitSettings
) -> "Answer | Trouble":
    try:
        return _ask(engine, image, [query], limits)[0]
    except PREDICT_ERRORS as error:
        if is_device_fault(error):
            raise
        reason = f"{type(error).__name__}: {error}"
        return Trouble("predict", reason, retryable=_out_of_memory(error))


def _ask(
    engine: Engine, image: NDArray[np.uint8], queries: Sequence[Asked], limits: LimitSettings
) -> "list[Answer | Trouble]":
    bound = limits.query_characters
    answers = engine.predict(image, queries, max_query_characters=bound)
    return [
        Trouble("query", str(answer)) if isinstance(answer, QueryError) else answer
        for answer in answers
    ]


def is_device_fault(error: BaseException) -> bool:
    """Return whether the accelerator is unusable for this process from now on."""
    return type(error).__name__ == "AcceleratorError" or "CUDA error" in str(error)


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def _timings(shared: Timings, answer: "Answer", queries: int) -> Timings:
    return replace(
        shared,
        fetch=shared.fetch / queries,
        decode=shared.decode / queries,
        encode=answer.seconds.encode,
        answer=answer.seconds.answer,
        mask=answer.seconds.mask,
    )
