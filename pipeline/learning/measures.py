"""What a model's answers are worth: the measures that the gate compares."""

from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass

from pipeline.learning.exam import Judged


@dataclass(frozen=True, slots=True)
class LabelMeasures:
    """The measures of one label: shares in [0, 1]; None: nothing to count.

    Attributes:
        queries: answers that count; ``present`` of them ask for something that is there.
        iou: mean IoU over present queries; one that is answered "absent" counts 0.
        giou: mean IoU over all queries; an absent object that is denied counts 1.
        ciou: summed intersection over summed union, present queries only.
        presence: share of queries whose presence is answered right.
        emission: share of answers that hold ``[SEG]``.
        denied: share of absent objects that are denied.
        accepted: share of present queries whose mask a person would accept.
    """

    queries: int
    present: int
    iou: float | None
    giou: float | None
    ciou: float | None
    presence: float | None
    emission: float | None
    denied: float | None
    accepted: float | None


@dataclass(frozen=True, slots=True)
class Measures(LabelMeasures):
    """The measures of all labels together, and ``by_label`` those of each."""

    by_label: dict[str, LabelMeasures]


def measure(scores: Collection[Judged], acceptable: float) -> Measures:
    """Return the measures of answers; a mask is ``acceptable`` from that IoU on."""
    labels: dict[str, list[Judged]] = defaultdict(list)
    for score in scores:
        labels[score.label].append(score)
    by_label = {label: _measured(labels[label], acceptable) for label in sorted(labels)}
    return Measures(**asdict(_measured(scores, acceptable)), by_label=by_label)


def _measured(scores: Collection[Judged], acceptable: float) -> LabelMeasures:
    present = [score for score in scores if score.present]
    absent = [score for score in scores if not score.present]
    return LabelMeasures(
        queries=len(scores),
        present=len(present),
        iou=_mean(present, lambda score: score.iou),
        giou=_mean(scores, lambda score: score.iou),
        ciou=_ciou(present),
        presence=_mean(scores, _right),
        emission=_mean(scores, lambda score: score.emitted),
        denied=_mean(absent, lambda score: not score.found),
        accepted=_mean(present, lambda score: score.iou >= acceptable),
    )


def _right(score: Judged) -> bool:
    return score.present == score.found


def _mean(scores: Collection[Judged], value: Callable[[Judged], float]) -> float | None:
    return sum(map(value, scores)) / len(scores) if scores else None


def _ciou(scores: Collection[Judged]) -> float | None:
    union = sum(score.union for score in scores)
    return sum(score.intersection for score in scores) / union if union else None
