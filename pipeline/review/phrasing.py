"""Which wording of a query people's corrections like best: chosen on one half, judged on the other.

A wording that wins among many on some images is better on them than it is: what it gains is told
from images that had no say in the choice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.bootstrap import Interval, mean_interval
from pipeline.draws import chance

FEWEST_IMAGES = 20


@dataclass(frozen=True, slots=True)
class Answered:
    """One corrected image: the IoU of each wording's answer with the correction."""

    image_id: str
    unit: str
    ious: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class WordingScore:
    """A wording and its mean IoU on the images that chose."""

    text: str
    iou: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of trying a label's wordings.

    ``tried`` is best first. ``before``, ``after`` are the present wording and the chosen one, whose
    mean IoUs on the ``judged`` images, none of which had a say, are ``iou_before`` and
    ``iou_after``; ``gain`` is their difference and ``gain_ci`` its 95 % interval over resampled
    units. ``failed`` images are left out: a wording had no answer there.
    """

    label: str
    before: str
    after: str
    tried: tuple[WordingScore, ...]
    chosen_on: int
    judged: int
    failed: int
    iou_before: float
    iou_after: float
    gain: float
    gain_ci: Interval

    @property
    def better(self) -> bool:
        """Whether the chosen wording is another one, and better beyond chance."""
        return self.after != self.before and self.gain_ci[0] > 0


def choose_wording(label: str, before: str, rows: Sequence[Answered], failed: int) -> Outcome:
    """Choose a wording on half of the units and judge it on the others.

    Args:
        label: of the query.
        before: its present wording, one of those that were tried.
        rows: the images with an answer to every wording, of at least two units.
        failed: how many other images there were.
    """
    names = sorted({row.unit for row in rows}, key=lambda name: chance("half", name))
    choosing = set(names[: (len(names) + 1) // 2])
    first = [row for row in rows if row.unit in choosing]
    second = [row for row in rows if row.unit not in choosing]
    texts = sorted(rows[0].ious, key=lambda text: text != before)  # of equals, the present one
    tried = [WordingScore(text, _mean([row.ious[text] for row in first])) for text in texts]
    tried.sort(key=lambda score: -score.iou)
    after = tried[0].text
    gains = [row.ious[after] - row.ious[before] for row in second]
    return Outcome(
        label=label,
        before=before,
        after=after,
        tried=tuple(tried),
        chosen_on=len(first),
        judged=len(second),
        failed=failed,
        iou_before=_mean([row.ious[before] for row in second]),
        iou_after=_mean([row.ious[after] for row in second]),
        gain=_mean(gains),
        gain_ci=mean_interval(gains, [row.unit for row in second]),
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
