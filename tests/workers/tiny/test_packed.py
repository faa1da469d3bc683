"""Sharing the beginning of rows changes no number."""

import torch

from workers.read.train import training_step_losses
from workers.tiny.data import Step
from workers.tiny.state import TrainingState


def test_losses_and_gradients_are_those_of_separate_rows(state: TrainingState, step: Step) -> None:
    model = state.model
    apart = training_step_losses(model, step.batch)
    apart.loss.backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    place = int((step.batch.input_ids[0] < 0).int().argmax())
    with model.sharing(step.batch.image_index, place + model.config.clip.side**2 + 1) as shared:
        together = training_step_losses(model, step.batch)
    together.loss.backward()
    assert shared.hidden.shape[0] == len(step.batch.input_ids)
    torch.testing.assert_close(together.loss, apart.loss, atol=1e-5, rtol=1e-5)
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], atol=2e-4, rtol=2e-3, msg=name)


def test_rows_of_one_picture_need_not_lie_together(state: TrainingState) -> None:
    embeddings = torch.randn(5, 30, state.model.config.llama.hidden)
    for row, other in ((2, 0), (4, 0), (3, 1)):
        embeddings[row, :20] = embeddings[other, :20]
    with torch.no_grad():
        apart = state.model.hidden(embeddings)
        with state.model.sharing([0, 1, 0, 1, 0], 20):
            together = state.model.hidden(embeddings)
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)


def test_outside_of_sharing_nothing_is_kept(state: TrainingState) -> None:
    with state.model.sharing([0], 1):
        pass
    embeddings = torch.randn(2, 8, state.model.config.llama.hidden)
    with torch.no_grad():
        states = state.model.hidden(embeddings)
    assert not torch.allclose(states[0, :1], states[1, :1])
