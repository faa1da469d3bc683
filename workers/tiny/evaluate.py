"""Judge a checkpoint on generated scenes, through the engine that labels pictures.

``python -m workers.tiny.evaluate --model DIR --seed N --count 500 [--json]``
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workers.read.engine import Answer, ReadEngine
from workers.read.errors import QueryError
from workers.scenes import DIFFICULTIES, EASY, Difficulty, Query, Scene, render
from workers.tiny.recipe import Recipe

BARS = {
    "mean_iou": 0.75,
    "ciou": 0.75,
    "presence_accuracy": 0.95,
    "points_inside_large": 0.9,
    "held_out_mean_iou": 0.65,
    "above_blind": 0.4,
}
"""What a checkpoint worth showing reaches on 500 hard scenes."""


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

    ``blind_mean_iou`` is the mean IoU when a scene's query is replaced by one of another scene,
    ``above_blind`` how much the model is above it. ``held_out_mean_iou`` is over ``held_out``
    queries for pairs of color and shape that training never shows together; ``*_large`` is over
    targets larger than one SasP cell. ``bars`` says which of :data:`BARS` are met.
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
    above_blind: float
    held_out: int
    held_out_mean_iou: float
    mean_iou_by_kind: dict[str, float]
    presence_by_kind: dict[str, float]

    @property
    def bars(self) -> dict[str, bool]:
        """Whether each bar is met."""
        return {name: getattr(self, name) >= bar for name, bar in BARS.items()}


def evaluate(
    engine: ReadEngine,
    seed: int,
    count: int,
    difficulty: Difficulty = EASY,
    progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Ask every query of ``count`` scenes of a seed, and one foreign query a scene.

    A fifth as many scenes more, of another seed, ask for held-out pairs. ``progress`` is told how
    many scenes are done.

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
        scores.extend(score(scene, query, answer, _cells(engine)) for query, answer in pairs)
        if foreign and present:
            blind.append(score(scene, present[index % len(present)], answers[-1]))
        foreign = present[0].text if present else foreign
        progress(index + 1)
    held_out = _held_out_scores(engine, seed + 1, max(1, count // 5), difficulty)
    return _report(scores, blind, held_out, model=engine.version, seed=seed, scenes=count)


def _held_out_scores(
    engine: ReadEngine, seed: int, count: int, difficulty: Difficulty
) -> list[Score]:
    """Score the first query of each scene, which asks for a pair that training leaves out."""
    knobs = replace(difficulty, pairs="held_out")
    scores = []
    for index in range(count):
        scene = render(seed, index, knobs)
        (answer,) = engine.predict(scene.image, [scene.queries[0].text])
        scores.append(score(scene, scene.queries[0], answer))
    return scores


def _cells(engine: ReadEngine) -> int:
    """SasP cells along a side of the central square."""
    sasp = engine.model.settings.sasp
    return engine.model.config.clip.side // (sasp.down_sample if sasp else 1)


def score(scene: Scene, query: Query, answer: Answer | QueryError, cells: int = 8) -> Score:
    """Compare an answer with the scene's truth; a refused query counts as answered absent.

    ``cells`` are SasP's along a side of the central square.
    """
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
        large=bool(truth.sum() > (min(truth.shape) / cells) ** 2),
    )


def _at(mask: NDArray[np.bool_], points: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the mask at (N, 2) points given as (x, y)."""
    cells = np.floor(points).astype(int)
    rows = cells[:, 1].clip(0, mask.shape[0] - 1)
    return np.asarray(mask[rows, cells[:, 0].clip(0, mask.shape[1] - 1)])


def _report(
    scores: Sequence[Score],
    blind: Sequence[Score],
    held_out: Sequence[Score],
    *,
    model: str,
    seed: int,
    scenes: int,
) -> Report:
    present = [item for item in scores if item.present]
    absent = [item for item in scores if not item.present]
    kinds: dict[str, list[float]] = defaultdict(list)
    right: dict[str, list[bool]] = defaultdict(list)
    for item in scores:
        right[item.kind].append(item.present == item.answered_present)
        if item.present:
            kinds[item.kind].append(item.iou)
    large = [item for item in present if item.large]
    mean_iou, blind_iou = (_mean([item.iou for item in items]) for items in (present, blind))
    return Report(
        model=model,
        seed=seed,
        scenes=scenes,
        queries=len(scores),
        absent=len(absent),
        mean_iou=mean_iou,
        ciou=_share(sum(i.intersection for i in present), sum(i.union for i in present)),
        presence_accuracy=_mean([one for values in right.values() for one in values]),
        present_recall=_mean([item.answered_present for item in present]),
        absent_recall=_mean([not item.answered_present for item in absent]),
        points_inside=_share(sum(i.inside for i in present), sum(i.points for i in present)),
        points_inside_large=_share(sum(i.inside for i in large), sum(i.points for i in large)),
        blind_mean_iou=blind_iou,
        above_blind=round(mean_iou - blind_iou, 4),
        held_out=len(held_out),
        held_out_mean_iou=_mean([item.iou for item in held_out]),
        mean_iou_by_kind={kind: _mean(values) for kind, values in sorted(kinds.items())},
        presence_by_kind={kind: _mean(values) for kind, values in sorted(right.items())},
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
    parser.add_argument("--count", type=int, default=500, help="number of scenes")
    parser.add_argument("--difficulty", choices=DIFFICULTIES, default="hard")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    engine = ReadEngine.load(arguments.model, device=arguments.device)
    difficulty = DIFFICULTIES[arguments.difficulty]
    report = evaluate(engine, arguments.seed, arguments.count, difficulty, _tell)
    content = {**asdict(report), "difficulty": arguments.difficulty, "bars": report.bars}
    if arguments.json:
        sys.stdout.write(json.dumps(content) + "\n")
        return
    for name, value in asdict(report).items():
        met = {True: "met", False: "NOT met", None: ""}[report.bars.get(name)]
        bar = f"bar {BARS[name]}: {met}" if name in BARS else ""
        sys.stdout.write(f"{name:22} {value!s:10} {bar}\n")


def _tell(done: int) -> None:
    if done % 20 == 0:
        sys.stderr.write(f"{done} scenes\n")


if __name__ == "__main__":
    main()
