"""What each step shows: drawn anew from (seed, step), so that no position has to be kept.

A correction's picture is drawn by the weight of its rows, a scene and a turn of dialogue evenly.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from pipeline.errors import InputError
from pipeline.records import Example
from pipeline.storage.training_sets import Dialogue, Manifest
from workers.finetune.settings import TrainSettings

_DIALOGUE_SCENES, _DIALOGUE_SIDE = 1_000, 128
_READING = 1
"""Sets the random numbers of what is read apart from those of the lessons."""


@dataclass(frozen=True, slots=True)
class StoredLesson:
    """A picture of the source and rows about it; ``draw`` says how it is varied."""

    uri: str
    etag: str
    rows: tuple[Example, ...]
    draw: int


@dataclass(frozen=True, slots=True)
class SceneLesson:
    """A generated scene and the places of the queries to ask about it, or a turn of dialogue.

    Dialogue needs a picture because the prompt does.
    """

    difficulty: str
    seed: int
    index: int
    side: int
    queries: int
    draw: int
    turn: Dialogue | None = None


Lesson = StoredLesson | SceneLesson


class Lessons:
    """The lessons of a training set, step by step; ``read_out`` are the queries to read out.

    Corrections that fail ``can_be_asked`` are left out, and counted as ``refused``.

    Raises:
        InputError: the set holds no correction that the model can be asked.
    """

    def __init__(
        self,
        manifest: Manifest,
        examples: Sequence[Example],
        settings: TrainSettings,
        can_be_asked: Callable[[Example], bool] = lambda _: True,
    ) -> None:
        self._settings = settings
        self._scenes = manifest.scenes
        self._turns = manifest.dialogue
        taught = [one for one in examples if one.split == "train"]
        usable = [one for one in taught if can_be_asked(one)]
        self.refused = len(taught) - len(usable)
        self._pictures = _by_picture(usable)
        if not self._pictures:
            raise InputError(f"snapshot {manifest.name}: no correction can be learned from")
        sums = list(accumulate(sum(row.weight for row in rows) for rows in self._pictures))
        self._bounds = np.array(sums)
        self.read_out = (
            () if settings.readouts is None else most_asked(usable, settings.readouts.queries)
        )
        self._readable = _by_picture([row for row in usable if row.query in self.read_out])

    @property
    def images(self) -> int:
        """Pictures with corrections."""
        return len(self._pictures)

    @property
    def steps(self) -> int:
        """Steps of the job: those for encoders alone, and those with lessons.

        Of the latter as many as are set, or so many that ``epochs`` times all pictures are shown.
        """
        settings = self._settings
        if settings.steps is not None:
            return self.alone + settings.steps
        share = 1 - self._share_of_scenes - self._share_of_dialogue
        shown = settings.epochs * self.images / share
        return self.alone + max(1, math.ceil(shown / settings.images_per_step))

    @property
    def alone(self) -> int:
        """Steps before all others that show pictures to the encoders only."""
        readouts = self._settings.readouts
        if readouts is None:
            return 0
        return math.ceil(readouts.alone * len(self._readable) / readouts.images)

    def of_step(self, step: int) -> list[Lesson]:
        """Return the ``images_per_step`` lessons of a step, counted from 0; none of one alone."""
        if step < self.alone:
            return []
        random = np.random.default_rng((self._settings.seed, step))
        return [self._draw(random) for _ in range(self._settings.images_per_step)]

    def to_read(self, step: int) -> list[StoredLesson]:
        """Return what a step shows to the encoders alone, each with its rows of :attr:`read_out`.

        None without read-outs.
        """
        if self._settings.readouts is None:
            return []
        random = np.random.default_rng((self._settings.seed, step, _READING))
        lessons = []
        for place in random.integers(len(self._readable), size=self._settings.readouts.images):
            rows = self._readable[place]
            draw = int(random.integers(2**31))
            lessons.append(StoredLesson(rows[0].image, rows[0].etag, tuple(rows), draw))
        return lessons

    @property
    def _share_of_scenes(self) -> float:
        return self._settings.scenes_share if self._scenes and self._scenes.count else 0.0

    @property
    def _share_of_dialogue(self) -> float:
        return self._settings.dialogue_share if self._turns else 0.0

    def _draw(self, random: np.random.Generator) -> Lesson:
        kind = random.random()
        if kind < self._share_of_scenes:
            return self._scene(random)
        if kind < self._share_of_scenes + self._share_of_dialogue:
            turn = self._turns[int(random.integers(len(self._turns)))]
            index = int(random.integers(_DIALOGUE_SCENES))
            return SceneLesson("easy", 0, index, _DIALOGUE_SIDE, 0, 0, turn)
        return self._stored(random)

    def _scene(self, random: np.random.Generator) -> SceneLesson:
        assert self._scenes, "their share is 0 otherwise"
        return SceneLesson(
            difficulty=self._scenes.difficulty,
            seed=self._scenes.seed,
            index=int(random.integers(self._scenes.count)),
            side=self._scenes.side,
            queries=self._settings.queries_per_image,
            draw=int(random.integers(2**31)),
        )

    def _stored(self, random: np.random.Generator) -> StoredLesson:
        place = int(np.searchsorted(self._bounds, random.random() * self._bounds[-1], "right"))
        rows = self._pictures[place]
        weights = np.array([row.weight for row in rows])
        count = min(len(rows), self._settings.queries_per_image)
        chosen = random.choice(len(rows), count, replace=False, p=weights / weights.sum())
        first = rows[0]
        shown = tuple(rows[at] for at in sorted(chosen))
        return StoredLesson(first.image, first.etag, shown, int(random.integers(2**31)))


def most_asked(examples: Sequence[Example], most: int) -> tuple[str, ...]:
    """Return the queries that were corrected in most pictures, at most so many of them."""
    asked = {(example.query, example.image_id) for example in examples}
    pictures = Counter(query for query, _ in asked)
    return tuple(sorted(pictures, key=lambda query: (-pictures[query], query))[:most])


def _by_picture(examples: Sequence[Example]) -> list[list[Example]]:
    pictures: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        pictures[example.image_id].append(example)
    return [pictures[image] for image in sorted(pictures)]
