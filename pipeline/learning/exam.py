"""Examples as questions for the labelling pool, and its answers as scores."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from pipeline import masks
from pipeline.records import Example, ImageRef, ImageTasks, LabelTask, Prediction, Query, task_key

SEG = "[SEG]"


@dataclass(frozen=True, slots=True)
class Judged:
    """How one answer compares with the truth; pixels are those of the picture.

    ``present`` is the truth, ``found`` the model's word; ``emitted`` says that ``[SEG]`` was in it.
    """

    label: str
    group: str
    present: bool
    found: bool
    emitted: bool
    intersection: int
    union: int

    @property
    def iou(self) -> float:
        """Intersection over union, 1 where both masks are empty."""
        return self.intersection / self.union if self.union else 1.0


class Exam:
    """Asks examples and scores the answers; several examples may ask the same."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = sorted(examples, key=attrgetter("image_id", "label", "query", "id"))
        self._by_key: dict[str, list[Example]] = {}

    def tasks(self, model_version: str, settings_json: str) -> Iterator[ImageTasks]:
        """Yield the images, each with what is asked about it."""
        self._by_key = {}
        for _, members in groupby(self._examples, key=attrgetter("image_id")):
            examples = list(members)
            first = examples[0]
            image = ImageRef(first.image_id, first.image, 0, first.etag, first.group)
            tasks: dict[str, LabelTask] = {}
            for example in examples:
                query = Query(example.label, example.query)
                key = task_key(image, query, model_version, settings_json)
                tasks[key] = LabelTask(key, query.label, query.text)
                self._by_key.setdefault(key, []).append(example)
            yield ImageTasks(image, tuple(tasks.values()))

    def scores(self, predictions: Iterable[Sequence[Prediction]]) -> dict[str, Judged]:
        """Return the scores of the answered examples by their ids."""
        return {
            example.id: judge(example, row)
            for rows in predictions
            for row in rows
            for example in self._by_key[row.key]
        }


def judge(example: Example, row: Prediction) -> Judged:
    """Compare an answer with the truth; a mask of another size shares nothing with it."""
    predicted, truth = row.mask, example.mask
    if (predicted.height, predicted.width) == (truth.height, truth.width):
        one, other = masks.decode(predicted), masks.decode(truth)
        intersection, union = int((one & other).sum()), int((one | other).sum())
    else:
        intersection, union = 0, masks.area(predicted) + masks.area(truth)
    return Judged(
        label=example.label,
        group=example.group,
        present=example.present,
        found=row.present,
        emitted=SEG in row.answer,
        intersection=intersection,
        union=union,
    )
