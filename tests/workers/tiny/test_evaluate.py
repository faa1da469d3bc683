"""The figures: what counts as right, and for which queries."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from workers.read.engine import Answer, EngineSeconds, Segment
from workers.scenes import EASY, Query, Scene, render
from workers.tiny.evaluate import evaluate, score
from workers.tiny.recipe import SASP, Recipe, tiny_config


def answer(mask: np.ndarray | None, points: list[tuple[float, float]] | None = None) -> Answer:
    xy = np.array(points or [], np.float32).reshape(-1, 2)
    segment = Segment(
        probability=1.0,
        query_vector=np.zeros(256, np.float32),
        similarity=np.zeros((8, 8), np.float32),
        points_xy=xy,
        point_labels=np.ones(len(xy), np.int8),
        point_similarity=np.ones(len(xy), np.float32),
        mask=np.zeros((1, 1), bool) if mask is None else mask,
        predicted_iou=1.0,
        stability=1.0,
    )
    segments = () if mask is None else (segment,)
    return Answer("", mask is not None, 1.0, segments, EngineSeconds(0, 0, 0))


@dataclass
class Oracle:
    """Answers with the truth of the scenes of a seed; ``shift`` rows off; denies ``denied``."""

    seed: int
    denied: str = ""
    count: int = 6
    version: str = "oracle"
    index: int = 0

    @property
    def model(self) -> SimpleNamespace:
        """What the size of a SasP cell is told from."""
        return SimpleNamespace(settings=SimpleNamespace(sasp=SASP), config=tiny_config(900))

    def predict(self, image: np.ndarray, queries: list[str]) -> list[Answer]:
        """Answer as the engine would."""
        scene = self._scene()
        assert np.array_equal(scene.image, image)
        self.index += 1
        truths = {query.text: query for query in scene.queries}
        return [self._answer(scene, truths.get(text)) for text in queries]

    def _scene(self) -> Scene:
        if self.index < self.count:
            return render(self.seed, self.index)
        return render(self.seed + 1, self.index - self.count, replace(EASY, pairs="held_out"))

    def _answer(self, scene: Scene, query: Query | None) -> Answer:
        known = query is not None and query.present and query.kind != self.denied
        return answer(scene.mask(query)) if query is not None and known else answer(None)


def test_the_truth_scores_one_and_a_foreign_query_less() -> None:
    report = evaluate(Oracle(51), seed=51, count=6)
    assert report.mean_iou == report.ciou == report.presence_accuracy == 1
    assert report.blind_mean_iou < 0.5
    assert report.above_blind == pytest.approx(1 - report.blind_mean_iou)
    assert (report.held_out, report.held_out_mean_iou) == (1, 1)
    assert report.bars == {name: name != "points_inside_large" for name in report.bars}
    assert 0 < report.absent < report.queries


def test_a_missed_object_costs_iou_and_presence() -> None:
    report = evaluate(Oracle(51, denied="color_shape"), seed=51, count=6)
    assert report.mean_iou_by_kind["color_shape"] == 0
    assert report.presence_by_kind["color_shape"] < report.presence_by_kind["color"] == 1
    assert report.mean_iou == report.present_recall < 1
    assert report.absent_recall == 1


def test_half_a_mask_scores_half() -> None:
    scene = render(52, 0)
    query = next(query for query in scene.queries if query.present)
    mask = scene.mask(query)
    half = mask & (np.cumsum(mask).reshape(mask.shape) <= mask.sum() // 2)
    assert score(scene, query, answer(half)).iou == pytest.approx(0.5, abs=0.01)


def test_points_count_where_they_lie() -> None:
    scene = render(52, 0)
    query = next(query for query in scene.queries if query.present)
    rows, columns = scene.mask(query).nonzero()
    inside = (float(columns[0]) + 0.4, float(rows[0]) + 0.4)
    found = score(scene, query, answer(scene.mask(query), [inside, (0.0, 0.0)]))
    assert (found.inside, found.points) == (1, 2)


def test_a_target_is_large_if_it_covers_more_than_a_cell() -> None:
    scene = render(52, 0)
    query = next(query for query in scene.queries if query.present)
    mask = scene.mask(query)
    side = int(min(mask.shape) / mask.sum() ** 0.5)
    assert score(scene, query, answer(mask), cells=side + 1).large
    assert not score(scene, query, answer(mask), cells=side - 1).large


def test_an_empty_mask_means_absent() -> None:
    scene = render(52, 0)
    query = next(query for query in scene.queries if query.present)
    found = score(scene, query, answer(np.zeros(scene.image.shape[:2], bool)))
    assert not found.answered_present
    assert found.iou == 0


def test_training_scenes_are_refused() -> None:
    with pytest.raises(ValueError, match="training seed"):
        evaluate(Oracle(0), seed=Recipe().seed, count=1)
