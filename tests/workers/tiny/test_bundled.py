"""The checkpoints in the repository: complete, small, and what their evaluations say."""

import json
from pathlib import Path

import pytest

from workers.read.engine import ReadEngine
from workers.read.identity import fingerprint
from workers.scenes import EASY, HARD, render
from workers.tiny.evaluate import BARS, evaluate

_BYTES = 16_000_000


DIFFICULTY = {"tiny": EASY, "sharp": HARD}


@pytest.fixture(scope="module", params=DIFFICULTY)
def bundled(request: pytest.FixtureRequest, repository: Path) -> Path:
    return repository / "configs" / "models" / request.param


@pytest.fixture(scope="module")
def engine(bundled: Path) -> ReadEngine:
    return ReadEngine.load(bundled)


def test_it_fits_and_has_every_part(bundled: Path) -> None:
    files = [path for path in bundled.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= _BYTES
    wanted = {"model.safetensors", "config.json", "readloop.json", "tokenizer.model"}
    assert wanted <= {path.name for path in bundled.iterdir()}
    assert (bundled / "clip" / "model.safetensors").is_file()


def test_its_evaluation_is_of_these_weights(bundled: Path) -> None:
    report = json.loads((bundled / "evaluation.json").read_text(encoding="utf-8"))
    assert report["model"] == fingerprint(bundled)
    assert report["scenes"] >= 200
    assert report["mean_iou"] >= 0.5
    assert report["mean_iou"] > report["blind_mean_iou"] + 0.2


def test_the_evaluation_on_hard_scenes_meets_every_bar(repository: Path) -> None:
    report = json.loads((repository / "configs/models/sharp/evaluation.json").read_text("utf-8"))
    assert (report["difficulty"], report["scenes"]) == ("hard", 500)
    assert report["bars"] == dict.fromkeys(BARS, True)
    assert report["presence_accuracy"] >= BARS["presence_accuracy"]


def test_it_finds_what_it_is_asked_for(engine: ReadEngine, bundled: Path) -> None:
    report = evaluate(engine, seed=61, count=10, difficulty=DIFFICULTY[bundled.name])
    assert report.mean_iou >= 0.4
    assert report.present_recall >= 0.7


def test_its_answers_come_with_points(engine: ReadEngine) -> None:
    settings = engine.model.settings.sasp
    assert settings is not None
    scene = render(62, 0)
    query = next(query for query in scene.queries if query.present)
    (answer,) = engine.predict(scene.image, [query.text])
    for segment in answer.segments:
        assert 0 < len(segment.points_xy) <= settings.num_points
        assert segment.mask.shape == scene.image.shape[:2]


def test_any_text_gets_an_answer(engine: ReadEngine) -> None:
    texts = ["the road", "ein blaues Fahrrad", "日本語 🙂", "x" * 200]
    assert len(engine.predict(render(63, 0).image, texts)) == 4
