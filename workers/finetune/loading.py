"""From lessons to batches: pictures are fetched from their store and decoded ahead of the steps."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from pipeline import masks
from pipeline.errors import ChangedError, InputError, MissingError, PictureError
from pipeline.records import Example
from pipeline.storage.store import ObjectReader
from workers.finetune.augmentation import varied
from workers.finetune.lessons import Lesson, Lessons, SceneLesson, StoredLesson
from workers.finetune.parallel import StepPart
from workers.finetune.readouts import Reading, build_reading
from workers.finetune.settings import TrainSettings
from workers.read.batches import TaughtPicture, TaughtRow, build_batch, fits_context
from workers.read.config import ReadConfig
from workers.read.errors import ImageError, QueryError
from workers.read.images import decode
from workers.read.prompt import PromptSettings, check_query, question
from workers.read.tokenizer import ReadTokenizer
from workers.read.train import TrainingBatch
from workers.scenes import DIFFICULTIES, render
from workers.settings import LimitSettings
from workers.tiny.data import taught_scene

_THREADS = 8
_STEPS_AHEAD = 2


@dataclass(frozen=True)
class Loader:
    """Makes the steps of one worker: of every ``settings.workers``-th lesson from ``rank`` on.

    ``config`` and ``prompt`` are the model's sizes and templates; ``reader`` fetches pictures,
    within ``limits``.
    """

    lessons: Lessons
    config: ReadConfig
    prompt: PromptSettings
    tokenizer: ReadTokenizer
    reader: ObjectReader
    limits: LimitSettings
    settings: TrainSettings
    rank: int

    def steps(self, first: int, last: int) -> Iterator[list[StepPart]]:
        """Yield the parts of the steps from ``first`` up to ``last``, some steps ahead.

        Raises:
            InputError: a picture is not the one that was corrected, or cannot be decoded.
            StorageError: a picture cannot be read.
        """
        with (
            _threads(1, "steps") as ahead,
            _threads(_THREADS, "lessons") as pool,
        ):
            waiting: deque[Future[list[StepPart]]] = deque()
            try:
                for step in range(first, last):
                    waiting.append(ahead.submit(self._step, step, pool))
                    if len(waiting) > _STEPS_AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for one in waiting:
                    one.cancel()

    def _step(self, step: int, pool: ThreadPoolExecutor) -> list[StepPart]:
        settings = self.settings
        mine = self.lessons.of_step(step)[self.rank :: settings.workers]
        pictures = list(pool.map(self._picture, mine))
        together = [
            pictures[at : at + settings.images_at_once]
            for at in range(0, len(pictures), settings.images_at_once)
        ]
        batches: list[TrainingBatch | None] = [
            build_batch(some, self.config, self.prompt, self.tokenizer, settings.loss_side)
            for some in together
        ]
        first, *others = batches or [None]  # a step for the encoders alone has no lessons
        return [
            StepPart(first, self._reading(step, pool)),
            *(StepPart(batch) for batch in others),
        ]

    def _reading(self, step: int, pool: ThreadPoolExecutor) -> Reading | None:
        mine = self.lessons.to_read(step)[self.rank :: self.settings.workers]
        if not mine:
            return None
        questions = [question(query, self.prompt) for query in self.lessons.read_out]
        return build_reading(list(pool.map(self._picture, mine)), questions, self.config)

    def _picture(self, lesson: Lesson) -> TaughtPicture:
        if isinstance(lesson, SceneLesson):
            return scene_picture(lesson, self.prompt)
        data = self._content(lesson)
        try:
            image = decode(data, self.limits.image_pixels)
        except ImageError as error:
            raise InputError(f"{lesson.uri}: {error}") from error
        rows = (taught_row(row, image.shape[:2], self.prompt) for row in lesson.rows)
        return varied(TaughtPicture(image, tuple(rows)), self.settings.augment, lesson.draw)

    def _content(self, lesson: StoredLesson) -> bytes:
        try:
            return self.reader.get(lesson.uri, self.limits.image_bytes, lesson.etag)
        except (ChangedError, MissingError) as error:
            raise PictureError(
                f"{lesson.uri}: is gone, or not the picture that was corrected any more; run "
                "again: once it is back the training goes on, else a training set without it is "
                "frozen (as --fresh does)"
            ) from error


def _threads(count: int, name: str) -> ThreadPoolExecutor:
    """Return threads whose tensor operations use no further threads.

    Each would get OpenMP threads of its own otherwise. With more of those than cores, the ones that
    train sleep between operations instead of waiting: on two cores a step took a third longer.
    """
    return ThreadPoolExecutor(count, name, initializer=torch.set_num_threads, initargs=(1,))


def scene_picture(lesson: SceneLesson, settings: PromptSettings) -> TaughtPicture:
    """Draw a scene and choose among its queries, or put a turn of dialogue beside it."""
    scene = render(lesson.seed, lesson.index, DIFFICULTIES[lesson.difficulty], lesson.side)
    if lesson.turn is not None:
        return TaughtPicture(scene.image, (TaughtRow(lesson.turn.question, lesson.turn.answer),))
    random = np.random.default_rng(lesson.draw)
    count = min(len(scene.queries), lesson.queries)
    chosen = sorted(random.choice(len(scene.queries), count, replace=False))
    return taught_scene(scene, [scene.queries[place] for place in chosen], settings)


def can_be_asked(
    example: Example,
    characters: int,
    config: ReadConfig,
    settings: PromptSettings,
    tokenizer: ReadTokenizer,
) -> bool:
    """Return whether the model can be asked a correction's query and taught its answer.

    ``characters`` is the most that a query may have.
    """
    try:
        check_query(example.query, characters)
    except QueryError:
        return False
    asked = question(example.query, settings)
    return fits_context(asked, example.answer, config, settings, tokenizer)


def taught_row(example: Example, size: tuple[int, int], settings: PromptSettings) -> TaughtRow:
    """Return a correction as a row; ``size`` is the picture's (height, width).

    Raises:
        InputError: the mask belongs to a picture of another size.
    """
    if not example.present:
        return TaughtRow(question(example.query, settings), example.answer)
    mask = masks.decode(example.mask)
    if mask.shape != size:
        raise InputError(
            f"{example.image}: correction {example.id} has a mask of "
            f"{mask.shape[1]}x{mask.shape[0]} pixels, the picture {size[1]}x{size[0]}"
        )
    return TaughtRow(question(example.query, settings), example.answer, (mask,))
