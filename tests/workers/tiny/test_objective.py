"""The auxiliary losses: each is small when its prediction is right, and reaches its weights."""

from types import SimpleNamespace

import pytest
import torch

from workers.tiny.data import Step
from workers.tiny.objective import class_loss, quality_loss, similarity_loss, tiny_losses
from workers.tiny.recipe import Recipe
from workers.tiny.state import TrainingState


def maps(similarity: torch.Tensor) -> SimpleNamespace:
    return SimpleNamespace(segments=[SimpleNamespace(similarity=one) for one in similarity])


def test_a_map_like_the_coverage_costs_less_than_any_other() -> None:
    coverage = torch.tensor([[0.0, 0.0, 0.5, 1.0]])
    right = similarity_loss(maps(torch.tensor([[-60.0, -60.0, 0.0, 60.0]])), coverage)
    flat = similarity_loss(maps(torch.zeros(1, 4)), coverage)
    wrong = similarity_loss(maps(torch.tensor([[60.0, 0.0, -60.0, -60.0]])), coverage)
    assert right < flat < wrong


def test_classes_cost_nothing_where_they_are_sure_and_right() -> None:
    shares = torch.tensor([[1.0, 0, 0, 0, 0], [0, 1.0, 0, 0, 1.0]])  # background; color 0, shape 1
    sure = (shares * 2 - 1) * 30
    assert float(class_loss(sure, shares, colors=2)) == pytest.approx(0, abs=1e-5)
    assert float(class_loss(-sure, shares, colors=2)) > 10


def test_quality_is_the_distance_to_the_true_iou() -> None:
    logits, truth = torch.tensor([[1.0, 1.0, -1.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    segment = SimpleNamespace(logits=logits, iou=torch.tensor(0.75))
    losses = SimpleNamespace(segments=[segment])
    assert float(quality_loss(losses, [truth])) == pytest.approx((0.75 - 0.5) ** 2)


def test_every_part_of_the_model_gets_a_gradient(
    state: TrainingState, step: Step, recipe: Recipe
) -> None:
    losses = tiny_losses(state.model, state.heads, step.batch, step.targets, recipe)
    losses.total.backward()
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
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
