"""The loop: steps learn, a stopped run resumes exactly, an export is a checkpoint."""

import csv
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest
import torch

from workers.read.checkpoint import load_model
from workers.read.engine import ReadEngine
from workers.scenes import HARD, render
from workers.tiny.export import export
from workers.tiny.objective import PARTS, Step
from workers.tiny.recipe import Recipe, Stage
from workers.tiny.state import LossCurve, TrainingState
from workers.tiny.train import (
    Place,
    build_optimizers,
    fresh_state,
    learning_rate,
    run_step,
    start_from,
    train,
)


def test_a_few_steps_on_one_batch_lower_the_loss(
    state: TrainingState, step: Step, recipe: Recipe
) -> None:
    first = float(run_step(state, step, recipe)[0].total.detach())
    for _ in range(6):
        last = float(run_step(state, step, recipe)[0].total.detach())
    assert last < 0.9 * first


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run_takes_the_steps_of_an_unbroken_one(
    optimizer: Literal["adamw", "muon"], step: Step, recipe: Recipe, tmp_path: Path
) -> None:
    recipe = replace(recipe, optimizer=optimizer)
    state = fresh_state(recipe, 903)
    run_step(state, step, recipe)
    state.save(tmp_path / "state.pt")
    resumed = fresh_state(replace(recipe, seed=1), 903)
    resumed.load(tmp_path / "state.pt")
    assert resumed.step == 1
    for one in (state, resumed):
        run_step(one, step, recipe)
    for name, value in state.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    for name, value in state.average.state_dict().items():
        assert torch.equal(value, resumed.average.state_dict()[name]), name


def test_the_average_forgets_what_a_training_began_with(state: TrainingState) -> None:
    weight = state.model.llama.lm_head.weight
    averaged = state.average.module.llama.lm_head.weight.detach()
    began = weight.detach().clone()
    with torch.no_grad():
        weight.add_(1)
    state.average.n_averaged.fill_(1)
    for _ in range(60):
        state.average.update_parameters(state.model)
    assert float((averaged - began).min()) > 0.99

    with torch.no_grad():
        averaged.copy_(began)
    state.average.n_averaged.fill_(10_000)
    state.average.update_parameters(state.model)
    assert float((averaged - began).mean()) == pytest.approx(1 - Recipe().averaging, rel=0.01)


def test_every_weight_has_one_optimizer(state: TrainingState, recipe: Recipe) -> None:
    muon = replace(recipe, optimizer="muon")
    for asked, count_ in ((recipe, 1), (muon, 2)):
        optimizers = build_optimizers(state.model, state.heads, asked)
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        moved = [id(weight) for group in groups for weight in group["params"]]
        weights = {
            id(weight) for part in (state.model, state.heads) for weight in part.parameters()
        }
        assert len(optimizers) == count_
        assert len(moved) == len(weights)
        assert set(moved) == weights


def test_a_state_of_another_optimizer_is_refused(
    state: TrainingState, recipe: Recipe, tmp_path: Path
) -> None:
    state.save(tmp_path / "state.pt")
    other = fresh_state(replace(recipe, optimizer="muon"), state.model.config.llama.vocab)
    with pytest.raises(ValueError, match=r"state\.pt: was trained with another optimizer"):
        other.load(tmp_path / "state.pt")


def test_the_rate_rises_then_falls(state: TrainingState) -> None:
    recipe = replace(Recipe(), minutes=10, warmup=4, rate=1.0, last_rate=0.1)
    rates = []
    for step, seconds in ((0, 0), (3, 0), (99, 300), (99, 600), (99, 900)):
        state.step, state.seconds = step, seconds
        rates.append(learning_rate(recipe, state))
    assert rates == pytest.approx([0.25, 1.0, 0.55, 0.1, 0.1])


def test_the_rate_falls_in_the_last_stage_only(state: TrainingState) -> None:
    stages = (Stage(minutes=5), Stage())
    recipe = replace(Recipe(), stages=stages, minutes=10, warmup=4, rate=1.0, last_rate=0.1)
    state.step, state.seconds = 50, 299.0
    assert learning_rate(recipe, state) == 1.0
    state.stage, state.began, state.seconds = 1, 50, 300.0
    assert learning_rate(recipe, state) == 0.25
    state.step, state.seconds = 90, 450.0
    assert learning_rate(recipe, state) == pytest.approx(0.55)


def test_a_curve_forgets_what_the_state_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    curve = LossCurve(path, 0)
    for number in (10, 20, 30):
        curve.add({"step": number, "total": 1.0})
    LossCurve(path, 20).add({"step": 30, "total": 2.0})
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert [(row["step"], row["total"]) for row in rows] == [
        ("10", "1.0"),
        ("20", "1.0"),
        ("30", "2.0"),
    ]


def test_a_curve_of_which_nothing_is_known_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    LossCurve(path, 0).add({"step": 10, "total": 1.0})
    curve = LossCurve(path, 0)
    curve.add({"step": 10, "total": 2.0})
    curve.add({"step": 20, "total": 3.0})
    assert path.read_text(encoding="utf-8").split() == ["step,total", "10,2.0", "20,3.0"]


def test_an_export_is_a_checkpoint_that_the_engine_answers_with(
    state: TrainingState, tokenizer_folder: Path, tmp_path: Path
) -> None:
    export(state.model, tokenizer_folder, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.settings == state.model.settings
    assert loaded.config == state.model.config
    for name, value in state.model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value.bfloat16().float()), name
    answers = ReadEngine.load(tmp_path).predict(render(42, 0, max_side=128).image, ["the circle"])
    assert len(answers) == 1


def test_spent_minutes_are_not_trained_again(
    recipe: Recipe, tokenizer_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer").symlink_to(tokenizer_folder)
    short = replace(recipe, minutes=0.001)
    first = train(tmp_path, short)
    assert first.step == 1
    again = train(tmp_path, short)
    assert again.step == 1
    assert again.seconds == first.seconds


def test_all_stages_of_a_training_are_gone_through(
    recipe: Recipe, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.tiny.train._CURVE_EVERY", 1)
    seconds = SimpleNamespace(monotonic=count().__next__)
    monkeypatch.setattr("workers.tiny.train.time", seconds)
    (tmp_path / "tokenizer").symlink_to(tokenizer_folder)
    stages = (
        Stage(minutes=1 / 60, scenes=0, tower_scenes=1, outline_scenes=1),
        Stage(minutes=1 / 60, scenes=1, masks=0, tower_scenes=1),
        Stage(scenes=1, masks=1, tower_scenes=1),
    )
    staged = replace(recipe, stages=stages)
    stopped = train(tmp_path, replace(staged, minutes=1 / 60))
    assert stopped.place == {"step": 1, "seconds": 1, "scenes": 0, "stage": 0, "began": 0}
    train(tmp_path, replace(staged, minutes=3 / 60))
    state = train(tmp_path, replace(staged, minutes=4 / 60))
    assert state.place == {"step": 4, "seconds": 4, "scenes": 3, "stage": 2, "began": 2}
    rows = list(csv.DictReader((tmp_path / "curve.csv").read_text(encoding="utf-8").splitlines()))
    told = [{name for name in PARTS if row[name]} for row in rows]
    assert told[0] == {"patches", "patch_places", "outlines"}
    assert told[1] == set(PARTS) - {"bce", "dice", "quality", "outlines"}
    assert told[2] == told[3] == set(PARTS)


def test_an_exported_training_is_gone_on_with(
    recipe: Recipe, tokenizer_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer").symlink_to(tokenizer_folder)
    first = train(tmp_path, replace(recipe, minutes=0.001))
    exported, vocabulary = tmp_path / "model", first.model.config.llama.vocab
    second = fresh_state(replace(recipe, seed=1), vocabulary)
    start_from(second, exported, recipe)
    assert second.place == first.place | {"began": 1}
    for name, value in load_model(exported).state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
        assert torch.equal(value, second.average.module.state_dict()[name]), name

    out = tmp_path / "second"
    third = train(out, replace(recipe, minutes=first.seconds / 60 + 0.001), Place(start=exported))
    assert third.step == 2
    trained = (out / "tokenizer" / "tokenizer.model").read_bytes()
    assert trained == (tokenizer_folder / "tokenizer.model").read_bytes()


def test_a_start_that_cannot_be_gone_on_from_is_named(
    recipe: Recipe, tokenizer_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer").symlink_to(tokenizer_folder)
    train(tmp_path, replace(recipe, minutes=0.001))
    other = replace(recipe, difficulty=HARD)
    with pytest.raises(ValueError, match="was trained with tiny sizes with SasP"):
        train(tmp_path / "other", other, Place(start=tmp_path / "model"))
    with pytest.raises(ValueError, match=r"tokenizer\.model: cannot be read; --start needs"):
        train(tmp_path / "none", recipe, Place(start=tmp_path / "nowhere"))
    (tmp_path / "model" / "training.json").write_text('{"kind"', encoding="utf-8")
    with pytest.raises(ValueError, match=r"training\.json: cannot be read; --start needs"):
        train(tmp_path / "broken", recipe, Place(start=tmp_path / "model"))


def test_a_state_of_an_earlier_version_is_refused_by_name(
    state: TrainingState, tmp_path: Path
) -> None:
    path = tmp_path / "state.pt"
    state.save(path)
    content = torch.load(path, weights_only=True)
    stage = content.pop("stage")
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"state\.pt: lacks stage; train into a new folder"):
        state.load(path)
    del content["heads"]["patches.bias"]
    torch.save(content | {"stage": stage}, path)
    with pytest.raises(ValueError, match=r"state\.pt: its heads has other weights; --start from"):
        state.load(path)
