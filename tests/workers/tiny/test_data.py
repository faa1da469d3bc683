"""Training steps: rows, labels and dense truth that agree with the scenes."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from workers.read.tokenizer import ReadTokenizer
from workers.read.train import IGNORED
from workers.scenes import EASY, render
from workers.tiny.data import (
    StepScenes,
    build_step,
    central_shares,
    mirrored,
    step_scenes,
    training_steps,
    view_shares,
)
from workers.tiny.objective import Step
from workers.tiny.recipe import SHARP, Recipe, Stage, tiny_config
from workers.tiny.vocabulary import ANSWER


def test_rows_answer_or_deny_their_query(step: Step, tokenizer: ReadTokenizer) -> None:
    queries = [query for index in range(2) for query in render(41, index, EASY).queries]
    for query, labels in zip(queries, step.batch.labels, strict=True):
        answer = tokenizer.decode(labels[labels != IGNORED].tolist())
        expected = tokenizer.decode(tokenizer.encode(query.denial or ANSWER))
        assert answer == expected


def test_every_seg_has_its_mask(step: Step) -> None:
    answers = (step.batch.input_ids == step.batch.seg_id).sum()
    assert len(step.batch.masks) == answers


def test_truth_is_compared_at_the_size_of_the_loss(tokenizer: ReadTokenizer) -> None:
    scene = render(43, 0, EASY, max_side=128)
    recipe = replace(Recipe(), loss_side=64)
    shown = StepScenes(asked=[scene])
    batch = build_step(shown, recipe, Stage(), tiny_config(len(tokenizer)), tokenizer).batch
    assert batch is not None
    query = next(query for query in scene.queries if query.present)
    assert max(batch.image_hw[0]) == 64
    assert tuple(batch.masks[0].shape) == batch.image_hw[0]
    assert float(batch.masks[0].mean()) == pytest.approx(scene.mask(query).mean(), rel=0.01)


def test_labels_repeat_the_inputs_they_cover(step: Step) -> None:
    labeled = step.batch.labels != IGNORED
    assert torch.equal(step.batch.labels[labeled], step.batch.input_ids[labeled])


def test_class_shares_of_a_cell_sum_to_its_color_and_shape(step: Step) -> None:
    targets = step.targets
    for classes in (targets.token_classes, targets.sam_classes, targets.tower_classes):
        background, rest = classes[..., 0], classes[..., 1:]
        colors = rest[..., : targets.colors].sum(dim=-1)
        torch.testing.assert_close(background + colors, torch.ones_like(colors), atol=1e-3, rtol=0)
        torch.testing.assert_close(rest.sum(dim=-1), 2 * colors, atol=1e-3, rtol=0)


def test_foreground_is_the_union_of_the_objects(step: Step) -> None:
    for index, foreground in enumerate(step.targets.foreground):
        scene = render(41, index, EASY, max_side=128)
        filled = np.prod(step.batch.resized_hw[index]) / 256**2
        share = scene.masks.any(axis=0).mean() * filled
        assert float(foreground.mean()) == pytest.approx(share, rel=0.03)


def test_central_shares_leave_out_the_ends_of_a_long_picture() -> None:
    mask = np.zeros((40, 80), dtype=bool)
    mask[:, :20] = True
    assert central_shares(mask, 4).sum() == 0
    mask[:20, 20:30] = True
    assert central_shares(mask, 4)[:2, 0].tolist() == [1.0, 1.0]


def test_view_shares_leave_the_padding_empty() -> None:
    shares = view_shares(np.ones((50, 100), dtype=bool), (128, 256), 16, 4)
    assert shares[:32].min() == 1
    assert shares[32:].max() == 0


def test_a_later_start_sees_the_same_steps(recipe: Recipe, tokenizer: ReadTokenizer) -> None:
    config, stage = tiny_config(len(tokenizer)), recipe.stages[0]
    later = next(training_steps(recipe, stage, config, tokenizer, first=1))
    expected = build_step(step_scenes(recipe, stage, 1), recipe, stage, config, tokenizer)
    second = list(islice(training_steps(recipe, stage, config, tokenizer, first=0), 2))[1]
    for one in (later, second):
        assert one.batch is not None
        assert expected.batch is not None
        assert torch.equal(one.batch.input_ids, expected.batch.input_ids)
        assert torch.equal(one.batch.sam_views, expected.batch.sam_views)
        assert torch.equal(one.targets.tower_classes, expected.targets.tower_classes)


def test_no_scene_is_shown_twice(recipe: Recipe) -> None:
    stage = Stage(scenes=2, tower_scenes=2, outline_scenes=2)
    shown = [step_scenes(recipe, stage, number) for number in (0, 1)]
    indices = [one.index for step in shown for one in (*step.asked, *step.tower, *step.outline)]
    assert len(set(indices)) == 12


def test_a_stage_asks_for_relations_as_often_as_it_says() -> None:
    asked = Stage(scenes=12, queries=12, masks=0, tower_scenes=1)
    shares = []
    for stage in (asked, replace(asked, relations=4)):
        scenes = step_scenes(SHARP, stage, 0).asked
        kinds = [query.kind for scene in scenes for query in scene.queries]
        assert len(kinds) > 100
        shares.append(kinds.count("relation") / len(kinds))
    assert shares[1] > 1.5 * shares[0]


def test_pictures_of_the_tower_come_again_in_a_mirror(recipe: Recipe) -> None:
    stage = Stage(scenes=0, tower_scenes=2, tower_again=1)
    earlier = step_scenes(recipe, stage, 2).tower
    *new, again = step_scenes(recipe, stage, 42).tower
    assert [scene.index for scene in new] == [42_000 + earlier[0].index - 2_000 + n for n in (0, 1)]
    assert np.array_equal(again.image[:, ::-1], earlier[0].image)
    assert np.array_equal(again.masks[:, :, ::-1], earlier[0].masks)
    assert not again.queries


def test_places_are_those_of_the_objects(recipe: Recipe, tokenizer: ReadTokenizer) -> None:
    scene = render(45, 0, EASY, max_side=128)
    stage, config = Stage(scenes=0, tower_scenes=2), tiny_config(len(tokenizer))
    shown = StepScenes(tower=[scene, mirrored(scene)])
    places, turned = build_step(shown, recipe, stage, config, tokenizer).targets.tower_places
    side, edge = config.clip.side, min(scene.image.shape[:2])
    top, left = ((length - edge) / 2 for length in scene.image.shape[:2])
    for item, mask in zip(scene.objects, scene.masks, strict=True):
        cell = int(central_shares(mask, side).argmax())
        share, x, y, size = places[cell].tolist()
        assert share > 0.5
        assert (x * edge + left, y * edge + top) == pytest.approx((item.x * edge, item.y * edge))
        assert np.exp(2 * size) * edge**2 == pytest.approx(item.area * mask.size, rel=1e-4)
    grid, other = places.reshape(side, side, 4), turned.reshape(side, side, 4).flip(1)
    covered = grid[..., 0] > 0.9
    torch.testing.assert_close(other[covered][:, 1], 1 - grid[covered][:, 1], atol=1e-4, rtol=0)


def test_ends_of_a_relation_say_whether_it_holds(tokenizer: ReadTokenizer) -> None:
    stage = Stage(scenes=12, queries=12, masks=0, tower_scenes=1)
    scenes = step_scenes(SHARP, stage, 0)
    queries = [query for scene in scenes.asked for query in scene.queries]
    step = build_step(scenes, SHARP, stage, SHARP.config(len(tokenizer)), tokenizer)
    asked, anchor, foremost = step.targets.relations.unbind(1)
    told = [query for query, one in zip(queries, asked.tolist(), strict=True) if one]
    assert told == [query for query in queries if query.kind == "relation"]
    holds = (foremost - anchor)[asked > 0]
    assert [query.present for query in told] == (holds > 0.15).tolist()
    assert [not query.present for query in told] == (holds < -0.05).tolist()
    assert 0 < sum(query.present for query in told) < len(told)
    assert step.targets.relations[:, 1:].abs().max() < 0.5


def test_a_step_holds_what_its_stage_shows(tokenizer: ReadTokenizer) -> None:
    config = SHARP.config(len(tokenizer))
    looking, grounding, _ = (
        replace(stage, scenes=min(1, stage.scenes), tower_scenes=1, outline_scenes=1)
        for stage in SHARP.stages
    )
    alone = next(training_steps(SHARP, looking, config, tokenizer, 0))
    assert alone.batch is None
    assert [len(x) for x in (alone.targets.tower_views, alone.targets.outline_views)] == [1, 1]
    assert len(alone.targets.sam_classes) == len(alone.targets.foreground) == 1
    assert len(alone.targets.token_classes) == 0

    asked = next(training_steps(SHARP, grounding, config, tokenizer, 0))
    assert asked.batch is not None
    assert len(asked.batch.input_ids) == grounding.queries
    assert len(asked.batch.sam_views) == 0
    assert len(asked.targets.token_classes) == 1
    assert len(asked.targets.sam_classes) == 1
