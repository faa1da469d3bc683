"""Presets: they fit, learn, keep held-out pairs out, and do not mix."""

import argparse
import json
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from workers.read.inspection import count_parameters, expected_headers
from workers.read.tokenizer import ReadTokenizer
from workers.scenes import HARD, render
from workers.tiny.compare import compare
from workers.tiny.data import StepScenes, build_step, on_device, training_steps
from workers.tiny.objective import Step
from workers.tiny.recipe import CPU, GPU, PRESETS, SHARP, Recipe, Stage
from workers.tiny.state import TrainingState
from workers.tiny.train import Place, chosen_recipe, fresh_state, run_step, train

LARGEST_BYTES = 16_000_000


@pytest.mark.parametrize("recipe", PRESETS.values(), ids=PRESETS)
def test_weights_fit_in_sixteen_megabytes(recipe: Recipe) -> None:
    weights, tower = expected_headers(recipe.config(903))
    assert 2 * count_parameters(weights | tower)["total"] < LARGEST_BYTES - 200_000


def test_the_gpu_preset_learns_hard_scenes_without_held_out_pairs(
    tokenizer: ReadTokenizer,
) -> None:
    assert GPU.difficulty == replace(HARD, pairs="training", queries=(8, 8))
    recipe = replace(GPU, scene_side=256, tower_side=224)
    scenes = [render(recipe.seed, 0, recipe.difficulty, 256)]
    shown = StepScenes(asked=scenes, tower=scenes)
    step = build_step(shown, recipe, recipe.stages[0], recipe.config(len(tokenizer)), tokenizer)
    state = fresh_state(recipe, len(tokenizer))
    before = [weight.clone() for weight in state.model.parameters()]
    losses, _ = run_step(state, step, recipe)
    assert torch.isfinite(losses.total)
    moved = [not torch.equal(a, b) for a, b in zip(before, state.model.parameters(), strict=True)]
    assert sum(moved) > 0.9 * len(moved)


def test_half_precision_keeps_points_and_masks_whole(
    state: TrainingState, step: Step, recipe: Recipe
) -> None:
    exact, _ = run_step(fresh_state(recipe, state.model.config.llama.vocab), step, recipe)
    with torch.autocast("cpu", torch.bfloat16):
        half, _ = run_step(state, on_device(step, torch.device("cpu")), recipe)
    assert half.total.item() == pytest.approx(exact.total.item(), rel=0.05)
    assert {weight.dtype for weight in state.model.parameters()} == {torch.float32}


def test_several_workers_keep_the_order(recipe: Recipe, tokenizer: ReadTokenizer) -> None:
    config, stage = recipe.config(len(tokenizer)), recipe.stages[0]
    one, two = (
        list(islice(training_steps(recipe, stage, config, tokenizer, 3, workers=workers), 3))
        for workers in (1, 2)
    )
    for ours, theirs in zip(one, two, strict=True):
        assert ours.batch is not None
        assert theirs.batch is not None
        assert torch.equal(ours.batch.sam_views, theirs.batch.sam_views)


def test_another_kind_of_training_is_not_gone_on_with(
    state: TrainingState, recipe: Recipe, tmp_path: Path
) -> None:
    state.save(tmp_path / "state.pt")
    other = fresh_state(replace(recipe, use_sasp=False), state.model.config.llama.vocab)
    assert other.model.settings.sasp is None
    with pytest.raises(ValueError, match=r"with tiny sizes with SasP.*without SasP"):
        other.load(tmp_path / "state.pt")


def test_the_command_line_changes_a_preset() -> None:
    asked = argparse.Namespace(
        preset=None,
        minutes=3.0,
        seed=5,
        optimizer="muon",
        scenes=None,
        difficulty="hard",
        no_sasp=True,
    )
    recipe = chosen_recipe(asked, "cpu")
    assert recipe == replace(
        CPU,
        minutes=3.0,
        seed=5,
        optimizer="muon",
        use_sasp=False,
        difficulty=replace(HARD, pairs="training"),
    )
    asked = argparse.Namespace(
        preset=None,
        minutes=None,
        seed=None,
        optimizer=None,
        scenes=4,
        difficulty=None,
        no_sasp=False,
    )
    (only,) = GPU.stages
    assert chosen_recipe(asked, "gpu") == replace(GPU, stages=(replace(only, scenes=4),))
    looking, *asking = SHARP.stages
    four = (looking, *(replace(stage, scenes=4) for stage in asking))
    assert chosen_recipe(asked, "sharp") == replace(SHARP, stages=four)


def test_stages_follow_each_other_by_their_minutes() -> None:
    recipe = replace(SHARP, stages=(Stage(minutes=2), Stage(minutes=3), Stage()), minutes=20)
    assert [recipe.stage_at(60 * minutes) for minutes in (0, 1.9, 2, 4.9, 5, 19)] == [
        0,
        0,
        1,
        1,
        2,
        2,
    ]
    assert [recipe.stage_seconds(number) for number in range(3)] == [
        (0, 120),
        (120, 300),
        (300, 1200),
    ]
    assert recipe.last_begins == 5
    assert replace(recipe, minutes=4).stage_seconds(1) == (120, 240)


def test_the_last_stage_lasts_to_the_end_of_the_training() -> None:
    recipe = replace(SHARP, stages=(Stage(minutes=2), Stage(minutes=3)), minutes=20)
    assert recipe.stage_seconds(1) == (120, 1200)


def test_a_stage_that_may_show_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="tower_scenes or outline_scenes"):
        Stage(tower_scenes=0)


def test_trainings_with_and_without_points_are_compared_once(
    recipe: Recipe, tokenizer_folder: Path, tmp_path: Path
) -> None:
    for use in ("on", "off"):
        folder = tmp_path / f"seed-{recipe.seed}-{use}"
        folder.mkdir()
        (folder / "tokenizer").symlink_to(tokenizer_folder)
    short = replace(recipe, minutes=0.001)
    trials, gain = compare(tmp_path, short, Place(), seeds=1, scenes=1)
    assert [(one.sasp, one.steps) for one in trials] == [(True, 1), (False, 1)]
    assert gain["mean_gain"] == trials[0].mean_iou - trials[1].mean_iou
    assert compare(tmp_path, short, Place(), seeds=1, scenes=1)[0] == trials


def test_what_sees_no_mask_is_trained_once_for_all_that_are_compared(
    recipe: Recipe, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.tiny.train.time", SimpleNamespace(monotonic=count().__next__))
    begun: list[tuple[Path, Path | None]] = []

    def told(out: Path, chosen: Recipe, place: Place) -> TrainingState:
        state = train(out, chosen, place)
        begun.append((out, place.start))
        return state

    monkeypatch.setattr("workers.tiny.compare.train", told)
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "tokenizer").symlink_to(tokenizer_folder)
    (asking,) = recipe.stages
    stages = (replace(asking, minutes=1 / 60, masks=0), asking)
    staged = replace(recipe, stages=stages, minutes=2 / 60)
    trials, _ = compare(tmp_path, staged, Place(), seeds=1, scenes=1)
    start, model = tmp_path / "start", tmp_path / "start" / "model"
    arms = [tmp_path / f"seed-{recipe.seed}-{use}" for use in ("on", "off")]
    assert begun == [(start, None), *((arm, model) for arm in arms)]
    assert [(one.sasp, one.steps) for one in trials] == [(True, 2), (False, 2)]
    common = json.loads((model / "training.json").read_text("utf-8"))
    assert (common["step"], common["stage"]) == (1, 0)
