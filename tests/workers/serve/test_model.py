"""The served model: what a moved point costs, and pictures that are too large."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import InputError
from pipeline.records import Point, Prediction
from pipeline.storage.settings import S3Settings
from pipeline.storage.shards import write_shard
from pipeline.storage.store import open_store
from pipeline.storage.tables import PredictionTables
from tests.e2e.serve.conftest import PICTURE, predicted
from workers.models import plan_model
from workers.read.engine import ReadEngine
from workers.read.sasp import sasp_points
from workers.read.sasp_settings import SasPSettings
from workers.serve.job import ServeJob
from workers.serve.model import ServedModel, prompt_points
from workers.serve.settings import ServeSettings
from workers.settings import LimitSettings, PoolSettings

POINT = [(5.0, 5.0, 1)]


@dataclass(frozen=True)
class Labeled:
    """A store with one labeled picture."""

    store: str
    model: Path
    row: Prediction
    pixels: int

    def serve(self, limits: LimitSettings) -> ServedModel:
        """Load the model."""
        planned = plan_model(str(self.model), S3Settings(), "float32")
        settings = ServeSettings()
        job = ServeJob(self.store, S3Settings(), limits, PoolSettings(), settings, planned)
        return ServedModel(job, planned.loader(job.s3, job.pool)())


@pytest.fixture(scope="module")
def labeled(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Labeled:
    tiny = repository / "configs" / "models" / "tiny"
    image = repository / "configs" / "demo" / "images" / PICTURE
    pixels, rows = predicted(ReadEngine.load(tiny), image)
    folder = tmp_path_factory.mktemp("store")
    store = open_store(str(folder), S3Settings())
    PredictionTables(store).commit([write_shard(store, rows)])
    return Labeled(str(folder), tiny, rows[0], pixels.shape[0] * pixels.shape[1])


def test_a_moved_point_costs_no_answer_of_the_language_model(
    labeled: Labeled, monkeypatch: pytest.MonkeyPatch
) -> None:
    def generate(*_: Any, **__: Any) -> None:
        raise AssertionError("the language model was asked")

    monkeypatch.setattr(ReadEngine, "generate", generate)
    monkeypatch.setattr(ReadEngine, "predict", generate)
    served = labeled.serve(LimitSettings())
    row = served.prediction(labeled.row.key)
    assert row is not None
    for x in (5.0, 6.0):
        served.refine(row, range(len(row.points)), [(x, 5.0, 1)])
    assert served.encoded == 1


def test_a_picture_over_the_limit_of_pixels_is_refused(labeled: Labeled) -> None:
    served = labeled.serve(LimitSettings(image_pixels=labeled.pixels - 1))
    for _ in range(2):  # and nothing of it is kept
        with pytest.raises(InputError, match=f"{PICTURE}: .*pixels"):
            served.refine(labeled.row, (), POINT)
    with pytest.raises(InputError, match=f"{PICTURE}: .*pixels"):
        served.ask(labeled.row, "something else", "the white thing")
    assert served.encoded == 0


def sasp(seed: int, count: int = 30) -> list[Point]:
    """Return the points of a map of noise; few of its cells are positive."""
    similarity = torch.rand(24 * 24, generator=torch.Generator().manual_seed(seed))
    made = sasp_points(similarity, (30, 40), SasPSettings(num_points=count))
    rows = zip(made.xy.tolist(), made.labels.tolist(), made.similarity.tolist(), strict=True)
    return [Point(x, y, label, similarity) for (x, y), label, similarity in rows]


def given(row: Prediction, vectors: int, *, own: bool = True) -> list[list[list[float]]]:
    """Return the places of each vector's points, of the row's own vectors or of others."""
    made = tuple((float(number),) for number in range(vectors))
    held = replace(row, seg_vectors=made if own else ((0.5,),))
    return [p.xy.tolist() for p in prompt_points(held, range(len(row.points)), POINT, made)]


def places(points: list[Point]) -> list[list[float]]:
    """Return them as a prompt has them, then the placed one."""
    xy = [(point.x, point.y) for point in points] + [POINT[0][:2]]
    return np.array(xy, np.float32).tolist()


@pytest.mark.parametrize("count", [1, 2, 30])
def test_each_of_a_predictions_vectors_has_its_own_points(labeled: Labeled, count: int) -> None:
    maps = [sasp(1, count), sasp(2, count), sasp(3, count)]
    row = replace(labeled.row, points=tuple(point for one in maps for point in one))
    assert given(row, 3) == [places(one) for one in maps]


def test_each_vector_has_all_points_where_nobody_knows_whose_they_are(labeled: Labeled) -> None:
    one, two = sasp(1), sasp(2)
    row = replace(labeled.row, points=tuple(one))
    assert given(row, 2, own=False) == [places(one)] * 2, "of another version, which sees two"
    row = replace(labeled.row, points=(*one, *two))
    assert given(row, 3) == [places([*one, *two])] * 3, "one of the three maps had none"
