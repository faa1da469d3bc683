"""Training steps: rows, labels and dense truth that agree with the scenes."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from workers.read.tokenizer import ReadTokenizer
from workers.read.train import IGNORED
from workers.scenes import EASY, render
from workers.tiny.data import Step, build_step, central_shares, training_steps, view_shares
from workers.tiny.recipe import Recipe, tiny_config
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
    batch = build_step([scene], [scene], recipe, tiny_config(len(tokenizer)), tokenizer).batch
    query = next(query for query in scene.queries if query.present)
    assert max(batch.image_hw[0]) == 64
    assert tuple(batch.masks[0].shape) == batch.image_hw[0]
    assert float(batch.masks[0].mean()) == pytest.approx(scene.mask(query).mean(), rel=0.01)


def test_labels_repeat_the_inputs_they_cover(step: Step) -> None:
    labeled = step.batch.labels != IGNORED
    assert torch.equal(step.batch.labels[labeled], step.batch.input_ids[labeled])


def test_class_shares_of_a_cell_sum_to_its_color_and_shape(step: Step) -> None:
    targets = step.targets
    for classes in (targets.token_classes, targets.sam_classes, targets.extra_classes):
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
    config = tiny_config(len(tokenizer))
    later = next(training_steps(recipe, config, tokenizer, first=1))
    scenes = [render(recipe.seed, index, EASY, recipe.scene_side) for index in (2, 3)]
    extra = [
        render(recipe.seed, 1_000_000_000 + index, EASY, recipe.extra_side) for index in (2, 3)
    ]
    expected = build_step(scenes, extra, recipe, config, tokenizer)
    assert torch.equal(later.batch.input_ids, expected.batch.input_ids)
    assert torch.equal(later.batch.sam_views, expected.batch.sam_views)
    assert torch.equal(later.targets.extra_classes, expected.targets.extra_classes)
    two = list(islice(training_steps(recipe, config, tokenizer, first=0), 2))
    assert torch.equal(two[1].batch.sam_views, expected.batch.sam_views)
