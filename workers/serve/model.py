"""The model behind the backend: masks of other points, and answers to new queries.

Images are read from the addresses in the predictions table only, never from a task.
"""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.records import ImageRef, LabelTask, Point, Prediction, Query, Timings, task_key
from pipeline.storage.lookup import PredictionLookup
from pipeline.storage.store import ObjectReader, open_store
from workers.answers import prediction
from workers.read.errors import ImageError, QueryError
from workers.read.images import decode
from workers.read.masks import EmbeddedImage
from workers.read.repointing import PromptPoints, RefinedMask, embed, mask_queries, refine
from workers.serve.cache import EmbeddingCache
from workers.serve.job import ServeJob

if TYPE_CHECKING:
    from workers.read.engine import ReadEngine

ANSWERS_KEPT = 1_000
_Vectors = tuple[tuple[float, ...], ...]
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class ServedModel:
    """One loaded model, with a table, a cache and the images of a run.

    One thread at a time may refine, ask and exchange the engine.
    """

    def __init__(self, job: ServeJob, engine: "ReadEngine") -> None:
        self._job = job
        store = open_store(job.store, job.s3)
        self._lookup = PredictionLookup(store)
        self._reader = ObjectReader(job.s3)
        kept = store if job.settings.keep_embeddings else None
        self._cache = EmbeddingCache(job.settings.cache_bytes, kept)
        self._answers: OrderedDict[tuple[str, str, str], Prediction] = OrderedDict()
        self._vectors: OrderedDict[tuple[str, str], _Vectors] = OrderedDict()
        self._engine = engine

    @property
    def version(self) -> str:
        """Name of the weights in use."""
        return self._engine.version

    @property
    def encoded(self) -> int:
        """How many images have been encoded so far."""
        return self._cache.encoded

    def exchange(self, engine: "ReadEngine") -> None:
        """Answer with another engine from now on."""
        self._engine = engine

    def forget_images(self) -> None:
        """Empty the cache of embeddings in memory."""
        self._cache.clear()

    def prediction(self, key: str) -> Prediction | None:
        """Return the stored prediction with that key."""
        return self._lookup.get(key)

    def refine(
        self, row: Prediction, kept: Sequence[int], placed: Sequence[tuple[float, float, int]]
    ) -> RefinedMask:
        """Make the mask of a prediction's ``[SEG]`` vectors with some of its points and others.

        Vectors of other weights, or of an absent object, are made anew by the model in use, once.

        Raises:
            InputError: the image cannot be decoded.
            StorageError: a store failed, or the image is no longer what it was.
        """
        engine = self._engine
        vectors = row.seg_vectors
        if not vectors or row.model_version != engine.version:
            vectors = self._fresh_vectors(engine, row)
        points = prompt_points(row, kept, placed, vectors)
        return refine(engine.model, self._embedding(engine, row), vectors, points)

    def ask(self, row: Prediction, label: str, query: str) -> Prediction:
        """Answer a new query about the image of ``row``; the same one again is not computed.

        Raises:
            InputError: the query cannot be asked, or the image cannot be decoded.
            StorageError: a store failed, or the image is no longer what it was.
        """
        engine = self._engine
        wanted = (row.image_id, query, engine.version)
        if wanted not in self._answers:
            _keep(self._answers, wanted, self._answer(engine, row, label, query))
        return self._answers[wanted]

    def _answer(self, engine: "ReadEngine", row: Prediction, label: str, query: str) -> Prediction:
        pixels = self._pixels(row)
        most = self._job.limits.query_characters
        (answer,) = engine.predict(pixels, [query], max_query_characters=most)
        if isinstance(answer, QueryError):
            raise InputError(f"this cannot be asked: {answer}") from answer
        image = ImageRef(row.image_id, row.image, row.image_size, row.etag, row.group)
        # Without the version, so that an answer of other weights replaces its region.
        key = task_key(image, Query(label, query), "", "")
        return prediction(
            image,
            LabelTask(key, label, query),
            answer,
            size=(pixels.shape[0], pixels.shape[1]),
            model_version=engine.version,
            timings=Timings(
                0, 0, answer.seconds.encode, answer.seconds.answer, answer.seconds.mask
            ),
        )

    def _fresh_vectors(self, engine: "ReadEngine", row: Prediction) -> _Vectors:
        wanted = (row.key, engine.version)
        if wanted not in self._vectors:
            try:
                made = mask_queries(engine, self._pixels(row), row.query)
            except QueryError as error:
                raise InputError(f"this cannot be asked: {error}") from error
            _keep(self._vectors, wanted, made)
        return self._vectors[wanted]

    def _embedding(self, engine: "ReadEngine", row: Prediction) -> EmbeddedImage:
        return self._cache.get(
            f"{row.image_id}\n{row.etag}",
            engine.version,
            engine.model,
            lambda: embed(engine.model, self._pixels(row)),
        )

    def _pixels(self, row: Prediction) -> NDArray[np.uint8]:
        limits = self._job.limits
        content = self._reader.get(row.image, limits.image_bytes, row.etag)
        try:
            return decode(content, limits.image_pixels)
        except ImageError as error:
            raise InputError(f"{row.image}: {error}") from error


def prompt_points(
    row: Prediction,
    kept: Sequence[int],
    placed: Sequence[tuple[float, float, int]],
    vectors: _Vectors,
) -> list[PromptPoints]:
    """Return each vector's points: its own that are kept, in their order, then the placed ones.

    Which points are whose is known of the row's own vectors only, and only if each had some and
    they tell where those of the next begin. Otherwise each vector has all of them.
    """
    firsts = _beginnings(row.points)
    if vectors == row.seg_vectors and len(firsts) == len(vectors):
        spans = [range(*ends) for ends in pairwise([*firsts, len(row.points)])]
    else:
        spans = [range(len(row.points))] * len(vectors)
    chosen = []
    for span in spans:
        own = [row.points[i] for i in kept if i in span]
        xy = [(point.x, point.y) for point in own] + [(x, y) for x, y, _ in placed]
        labels = [point.label for point in own] + [sign for _, _, sign in placed]
        chosen.append(
            PromptPoints(np.array(xy, np.float32).reshape(-1, 2), np.array(labels, np.int64))
        )
    return chosen


def _beginnings(points: Sequence[Point]) -> list[int]:
    """Return where the points of each map begin, as far as they tell.

    SasP puts the best of a map first, whose similarity is 1 unless it lies beyond the picture.
    """
    ranks = [_rank(point) for point in points]
    return [i for i, rank in enumerate(ranks) if i == 0 or rank == _BEST or rank > ranks[i - 1]]


_BEST = (1, 1.0)


def _rank(point: Point) -> tuple[int, float]:
    """Return what does not rise within a map: the label, and the similarity of positives."""
    return point.label, point.similarity if point.label == 1 else 0.0


def _keep(held: OrderedDict[_Key, _Value], key: _Key, value: _Value) -> None:
    held[key] = value
    if len(held) > ANSWERS_KEPT:
        held.popitem(last=False)
