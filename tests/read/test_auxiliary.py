"""The losses that READ does not have: small where its outputs are right."""

from types import SimpleNamespace

import pytest
import torch

from workers.read.auxiliary import central_coverage, quality_loss, similarity_loss


def test_a_map_like_the_coverage_costs_less_than_any_other() -> None:
    coverage = torch.tensor([[0.0, 0.0, 0.5, 1.0]])
    right = similarity_loss(torch.tensor([[-60.0, -60.0, 0.0, 60.0]]), coverage, size=192)
    flat = similarity_loss(torch.zeros(1, 4), coverage, size=192)
    wrong = similarity_loss(torch.tensor([[60.0, 0.0, -60.0, -60.0]]), coverage, size=192)
    assert right < flat < wrong


def test_quality_is_the_distance_to_the_true_iou() -> None:
    logits, truth = torch.tensor([[1.0, 1.0, -1.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    segment = SimpleNamespace(logits=logits, iou=torch.tensor(0.75))
    assert float(quality_loss([segment], [truth])) == pytest.approx((0.75 - 0.5) ** 2)


def test_coverage_is_that_of_the_central_square() -> None:
    truth = torch.zeros(4, 8)
    truth[:2, 2:4] = 1  # the square is columns 2 to 5
    truth[:, 7] = 1
    wide, tall = central_coverage([truth, truth.T.contiguous()], 2).tolist()
    assert wide == [1, 0, 0, 0]
    assert tall == [1, 0, 0, 0]
    assert central_coverage([truth[:, 2:6]], 1).tolist() == [[0.25]]
