"""The auxiliary losses: each is small when its prediction is right, and reaches its weights."""

import pytest
import torch
from torch import nn

from workers.read.tokenizer import ReadTokenizer
from workers.read.train import training_step_losses
from workers.scenes import EASY, render
from workers.tiny.data import StepScenes, build_step
from workers.tiny.objective import (
    PARTS,
    Step,
    class_loss,
    compared_masks,
    place_loss,
    search_loss,
    tiny_losses,
)
from workers.tiny.recipe import Recipe, Stage
from workers.tiny.state import TrainingState


def test_classes_cost_nothing_where_they_are_sure_and_right() -> None:
    shares = torch.tensor([[1.0, 0, 0, 0, 0], [0, 1.0, 0, 0, 1.0]])  # background; color 0, shape 1
    sure = (shares * 2 - 1) * 30
    assert float(class_loss(sure, shares, colors=2)) == pytest.approx(0, abs=1e-5)
    assert float(class_loss(-sure, shares, colors=2)) > 10


def test_places_count_by_what_is_covered() -> None:
    truth = torch.tensor([[1.0, 0.2, 0.4, -1.0], [0.5, 0.6, 0.4, -1.0], [0.0, 9.0, 9.0, 9.0]])
    assert float(place_loss(truth[:, 1:], truth)) == 0
    off = truth[:, 1:] + torch.tensor([[0.1, 0.0, 0.2], [0.0, 0.6, 0.0], [7.0, 7.0, 7.0]])
    assert float(place_loss(off, truth)) == pytest.approx((0.3 + 0.5 * 0.6) / 1.5)
    assert float(place_loss(off, torch.zeros_like(truth))) == 0


def test_an_absent_object_is_looked_for_nowhere(state: TrainingState, step: Step) -> None:
    """The state before a denial learns to be unlike every image token; not that before a mask."""
    batch = step.batch
    rows = torch.arange(len(batch.labels))
    present = {row for row, _ in training_step_losses(state.model, batch, compared=()).seg_states}
    absent = [row for row in rows.tolist() if row not in present]
    assert absent
    assert present
    states = torch.ones((len(batch.clip_views), state.model.config.clip.side**2, 4))
    seg_states = [(row, 0) for row in sorted(present)]

    def loss(similarity: float, chosen: list[int]) -> float:
        first = torch.zeros((len(rows), 4))
        first[chosen] = similarity
        return float(search_loss(first, states, seg_states, batch))

    assert loss(-5, absent) < loss(0, absent) < loss(5, absent)
    assert loss(-5, sorted(present)) > loss(-5, absent)


def test_so_many_masks_of_each_picture_are_compared(state: TrainingState, step: Step) -> None:
    one = compared_masks(step.batch, 1)
    losses = training_step_losses(state.model, step.batch, compared=one)
    assert [step.batch.image_index[row] for row in losses.segment_rows] == [0, 1]
    assert len(losses.seg_states) == len(step.batch.masks) > 2
    assert compared_masks(step.batch, None) == list(range(len(step.batch.masks)))


def test_every_part_of_the_model_gets_a_gradient(
    state: TrainingState, step: Step, recipe: Recipe
) -> None:
    losses = tiny_losses(state.model, state.heads, step, recipe, Stage())
    losses.total.backward()
    assert tuple(losses.parts) == PARTS
    assert float(losses.total.detach()) == pytest.approx(sum(losses.parts.values()), rel=1e-4)
    for part in (
        state.model.clip.embeddings,
        state.model.projector,
        state.model.llama,
        state.model.query_head,
        state.model.sam.image_encoder,
        state.model.sam.mask_decoder.transformer,
        state.model.sam.mask_decoder.iou_prediction_head,
        state.heads,
    ):
        assert learns(part)


def test_encoders_learn_alone_where_nothing_is_asked(
    state: TrainingState, recipe: Recipe, tokenizer: ReadTokenizer
) -> None:
    scenes = [render(41, 0, EASY, max_side=128)]
    shown = StepScenes(tower=scenes, outline=scenes)
    stage = Stage(scenes=0, tower_scenes=1, outline_scenes=1)
    step = build_step(shown, recipe, stage, state.model.config, tokenizer)
    losses = tiny_losses(state.model, state.heads, step, recipe, stage)
    losses.total.backward()
    assert set(losses.parts) == {"patches", "patch_places", "outlines"}
    assert learns(state.model.clip.embeddings)
    assert learns(state.model.sam.image_encoder)
    assert not learns(state.model.llama)
    assert not learns(state.model.sam.mask_decoder)


def test_the_language_model_learns_without_masks(
    state: TrainingState, recipe: Recipe, tokenizer: ReadTokenizer
) -> None:
    stage = Stage(scenes=1, masks=0)
    shown = StepScenes(asked=[render(41, 0, EASY, max_side=128)])
    step = build_step(shown, recipe, stage, state.model.config, tokenizer)
    losses = tiny_losses(state.model, state.heads, step, recipe, stage)
    losses.total.backward()
    assert set(losses.parts) == set(PARTS) - {"bce", "dice", "quality", "outlines"}
    assert learns(state.model.llama)
    assert learns(state.model.clip.embeddings)
    assert not learns(state.model.sam.image_encoder)


@pytest.mark.parametrize("masks", [None, 0])
def test_outlines_are_of_their_own_pictures(
    masks: int | None, state: TrainingState, recipe: Recipe, tokenizer: ReadTokenizer
) -> None:
    """A picture's outlines cost the same beside another that is asked about, or not."""
    asked, alone = (render(41, index, EASY, max_side=128) for index in (0, 1))
    stage = Stage(scenes=1, masks=masks, tower_scenes=0, outline_scenes=1)

    def outlines(shown: StepScenes) -> float:
        step = build_step(shown, recipe, stage, state.model.config, tokenizer)
        return tiny_losses(state.model, state.heads, step, recipe, stage).parts["outlines"]

    both = outlines(StepScenes(asked=[asked], outline=[alone]))
    if masks == 0:
        assert both == pytest.approx(outlines(StepScenes(outline=[alone])), rel=1e-5)
    else:
        assert both == pytest.approx(outlines(StepScenes(outline=[asked, alone])), rel=1e-5)


def learns(part: nn.Module) -> bool:
    """Return whether any weight of the part has a gradient."""
    return any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in part.parameters())
