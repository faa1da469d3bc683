"""Judge a checkpoint on generated scenes, through the engine that labels pictures.

``python -m workers.tiny.evaluate --model DIR --seed N --count 200 [--json]``
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workers.read.engine import Answer, ReadEngine
from workers.read.errors import QueryError
from workers.scenes import EASY, HARD, Difficulty, Query, Scene, render
from workers.tiny.recipe import Recipe

_DIFFICULTIES = {"easy": EASY, "hard": HARD}


@dataclass(frozen=True, slots=True)
class Score:
    """One query's outcome. ``iou`` and the pixel counts are of no use where it is absent.

    ``inside`` counts the positive points of ``points`` that lie in the true mask; ``large`` says
    that the target covers more than one SasP cell.
    """

    kind: str
    present: bool
    answered_present: bool
    intersection: int
    union: int
    inside: int
    points: int
    large: bool

    @property
    def iou(self) -> float:
        """Return intersection over union; 1 where both masks are empty."""
        return self.intersection / self.union if self.union else 1.0


@dataclass(frozen=True, slots=True)
class Report:
    """Figures over all queries; IoU over those whose object is present.

    ``blind_mean_iou`` is the mean IoU when a scene's query is replaced by one of another scene.
    """

    model: str
    seed: int
    scenes: int
    queries: int
    absent: int
    mean_iou: float
    ciou: float
    presence_accuracy: float
    present_recall: float
    absent_recall: float
    points_inside: float
    points_inside_large: float
    blind_mean_iou: float
    mean_iou_by_kind: dict[str, float]


def evaluate(engine: ReadEngine, seed: int, count: int, difficulty: Difficulty = EASY) -> Report:
    """Ask every query of ``count`` scenes of a seed, and one foreign query a scene.

    Raises:
        ValueError: the seed is the one that the recipe trains on.
    """
    if seed == Recipe().seed:
        message = f"seed {seed} is the training seed: choose another for held-out scenes"
        raise ValueError(message)
    scores: list[Score] = []
    blind: list[Score] = []
    foreign: str | None = None
    for index in range(count):
        scene = render(seed, index, difficulty)
        present = [query for query in scene.queries if query.present]
        asked = [query.text for query in scene.queries]
        answers = engine.predict(scene.image, [*asked, foreign] if foreign else asked)
        pairs = zip(scene.queries, answers, strict=False)
        scores.extend(score(scene, query, answer) for query, answer in pairs)
        if foreign and present:
            blind.append(score(scene, present[index % len(present)], answers[-1]))
        foreign = present[0].text if present else foreign
    return _report(engine.version, seed, count, scores, blind)


def score(scene: Scene, query: Query, answer: Answer | QueryError) -> Score:
    """Compare an answer with the scene's truth; a refused query counts as answered absent."""
    truth = scene.mask(query)
    mask = np.zeros_like(truth)
    inside = points = 0
    for segment in () if isinstance(answer, QueryError) else answer.segments:
        mask |= segment.mask
        positive = segment.points_xy[segment.point_labels == 1]
        inside += int(_at(truth, positive).sum())
        points += len(positive)
    return Score(
        kind=query.kind,
        present=query.present,
        answered_present=bool(mask.any()),
        intersection=int((mask & truth).sum()),
        union=int((mask | truth).sum()),
        inside=inside,
        points=points,
        large=bool(truth.sum() > (min(truth.shape) / 8) ** 2),
    )


def _at(mask: NDArray[np.bool_], points: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the mask at (N, 2) points given as (x, y)."""
    cells = np.floor(points).astype(int)
    rows = cells[:, 1].clip(0, mask.shape[0] - 1)
    return np.asarray(mask[rows, cells[:, 0].clip(0, mask.shape[1] - 1)])


def _report(
    model: str, seed: int, scenes: int, scores: Sequence[Score], blind: Sequence[Score]
) -> Report:
    present = [item for item in scores if item.present]
    absent = [item for item in scores if not item.present]
    kinds: dict[str, list[float]] = defaultdict(list)
    for item in present:
        kinds[item.kind].append(item.iou)
    large = [item for item in present if item.large]
    return Report(
        model=model,
        seed=seed,
        scenes=scenes,
        queries=len(scores),
        absent=len(absent),
        mean_iou=_mean([item.iou for item in present]),
        ciou=_share(sum(i.intersection for i in present), sum(i.union for i in present)),
        presence_accuracy=_mean([item.present == item.answered_present for item in scores]),
        present_recall=_mean([item.answered_present for item in present]),
        absent_recall=_mean([not item.answered_present for item in absent]),
        points_inside=_share(sum(i.inside for i in present), sum(i.points for i in present)),
        points_inside_large=_share(sum(i.inside for i in large), sum(i.points for i in large)),
        blind_mean_iou=_mean([item.iou for item in blind]),
        mean_iou_by_kind={kind: _mean(values) for kind, values in sorted(kinds.items())},
    )


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4) if values else 0.0


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0


def main() -> None:
    """Read the command line, evaluate, print."""
    parser = argparse.ArgumentParser(description="Judge a checkpoint on generated scenes.")
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--seed", type=int, required=True, help="seed of the scenes")
    parser.add_argument("--count", type=int, default=200, help="number of scenes")
    parser.add_argument("--difficulty", choices=sorted(_DIFFICULTIES), default="easy")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    engine = ReadEngine.load(arguments.model)
    difficulty = _DIFFICULTIES[arguments.difficulty]
    report = asdict(evaluate(engine, arguments.seed, arguments.count, difficulty))
    if arguments.json:
        sys.stdout.write(json.dumps(report) + "\n")
        return
    for name, value in report.items():
        sys.stdout.write(f"{name:22} {value}\n")


if __name__ == "__main__":
    main()
