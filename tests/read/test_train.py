"""One training step: any number of ``[SEG]`` a row, one look at each image."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from workers.read import train
from workers.read.images import clip_view, sam_view
from workers.read.model import ReadModel
from workers.read.prompt import PromptSettings, prompt
from workers.read.tokenizer import ReadTokenizer
from workers.read.train import (
    LossWeights,
    TrainingBatch,
    TrainingLosses,
    dice_loss,
    mask_losses,
    training_step_losses,
)

SIZES = ((60, 90), (48, 48))
ANSWERS = ("[SEG].", "No, it is not here.", "The car is [SEG] and the dog is [SEG].")


@pytest.fixture
def batch(model: ReadModel, tokenizer: ReadTokenizer) -> TrainingBatch:
    """Two images; the first is asked about twice, the second gets two masks in one answer."""
    random = np.random.default_rng(1)
    images = [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    views = [sam_view(image, model.config.sam.image) for image in images]
    rows = [_row(tokenizer, answer) for answer in ANSWERS]
    return TrainingBatch(
        clip_views=torch.stack(
            [torch.from_numpy(clip_view(image, model.config.clip_view)) for image in images]
        ),
        sam_views=torch.stack([torch.from_numpy(view) for view, _ in views]),
        image_hw=SIZES,
        resized_hw=[resized for _, resized in views],
        image_index=[0, 0, 1],
        input_ids=_padded([ids for ids, _ in rows], tokenizer.pad_id),
        labels=_padded([labels for _, labels in rows], -100),
        masks=[torch.from_numpy(random.random(SIZES[image]) > 0.5) for image in (0, 1, 1)],
        seg_id=tokenizer.seg_id,
    )


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Rows that share nothing, until it is undone."""
    with monkeypatch.context() as patch:
        patch.setattr(train, "common_beginning", lambda _ids, _tokens: 0)
        yield patch


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def _row(tokenizer: ReadTokenizer, answer: str) -> tuple[list[int], list[int]]:
    settings = PromptSettings()
    ids = tokenizer.encode_prompt(prompt("What is it?", settings, answer))
    asked = len(tokenizer.encode_prompt(prompt("What is it?", settings)))
    return ids, [-100] * asked + ids[asked:]


def _padded(rows: list[list[int]], value: int) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(row) for row in rows], batch_first=True, padding_value=value
    )


def only(batch: TrainingBatch, row: int, masks: slice) -> TrainingBatch:
    """One row of a batch, by itself."""
    image = batch.image_index[row]
    return replace(
        batch,
        clip_views=batch.clip_views[image : image + 1],
        sam_views=batch.sam_views[image : image + 1],
        image_hw=batch.image_hw[image : image + 1],
        resized_hw=batch.resized_hw[image : image + 1],
        image_index=[0],
        input_ids=batch.input_ids[row : row + 1],
        labels=batch.labels[row : row + 1],
        masks=batch.masks[masks],
    )


def test_every_seg_of_every_row_is_found(model: ReadModel, batch: TrainingBatch) -> None:
    losses = training_step_losses(model, batch)
    assert losses.segment_rows == (0, 2, 2)
    assert [tuple(segment.logits.shape) for segment in losses.segments] == [
        SIZES[0],
        SIZES[1],
        SIZES[1],
    ]
    torch.testing.assert_close(losses.loss, losses.ce + losses.bce + losses.dice)


def test_a_batch_gives_what_its_rows_give_alone(model: ReadModel, batch: TrainingBatch) -> None:
    def close(one: TrainingLosses, others: slice) -> None:
        for got, wanted in zip(one.segments, together.segments[others], strict=True):
            torch.testing.assert_close(got.logits, wanted.logits, rtol=1e-4, atol=1e-5)

    together = training_step_losses(model, batch)
    first = training_step_losses(model, only(batch, 0, slice(0, 1)))
    second = training_step_losses(model, only(batch, 1, slice(0, 0)))
    third = training_step_losses(model, only(batch, 2, slice(1, 3)))
    close(first, slice(0, 1))
    close(third, slice(1, 3))
    tokens = (batch.labels != -100).sum(dim=1)
    ce = torch.stack([first.ce, second.ce, third.ce])
    torch.testing.assert_close(together.ce, (ce * tokens).sum() / tokens.sum())
    torch.testing.assert_close(together.bce, (first.bce + 2 * third.bce) / 3)
    assert second.bce == second.dice == 0


def test_each_image_is_encoded_once(model: ReadModel, batch: TrainingBatch) -> None:
    seen: list[int] = []
    for module in (model.clip, model.sam.image_encoder):
        module.register_forward_hook(lambda _module, views, _out: seen.append(len(views[0])))
    training_step_losses(model, batch)
    assert seen == [2, 2]


def test_rows_that_share_their_beginning_give_what_separate_rows_give(
    model: ReadModel, batch: TrainingBatch, apart: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    layer = model.llama.model.layers[0]
    layer.register_forward_hook(lambda _m, inputs, _out: seen.append(tuple(inputs[0].shape[:2])))
    alone = training_step_losses(model, batch)
    alone.loss.backward()
    wanted = gradients(model)
    apart.undo()
    together = training_step_losses(model, batch)
    together.loss.backward()
    assert seen[0][0] == len(batch.input_ids)
    assert seen[1][0] == len(batch.clip_views)
    assert seen[1][0] * seen[1][1] < seen[0][0] * seen[0][1]
    torch.testing.assert_close(together.loss, alone.loss, atol=1e-5, rtol=1e-5)
    found = gradients(model)
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], atol=2e-4, rtol=2e-3, msg=name)


def test_gradients_reach_every_part_that_learns(model: ReadModel, batch: TrainingBatch) -> None:
    losses = training_step_losses(model, batch)
    (losses.bce + losses.dice).backward()
    parts = (
        model.query_head[0],
        model.sam.mask_decoder.transformer,
        model.llama.model.layers[0].self_attn.q_proj,
        model.llama.model.embed_tokens,
    )
    for part in parts:
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())


def test_weights_scale_their_losses(model: ReadModel, batch: TrainingBatch) -> None:
    plain = training_step_losses(model, batch, LossWeights(1, 1, 1))
    weighted = training_step_losses(model, batch)
    for name, factor in (("ce", 1.0), ("bce", 2.0), ("dice", 0.5)):
        torch.testing.assert_close(getattr(weighted, name), factor * getattr(plain, name))


def test_losses_that_read_has_not_are_off_until_asked_for(
    model: ReadModel, batch: TrainingBatch
) -> None:
    plain = training_step_losses(model, batch)
    assert plain.similarity == plain.quality == 0
    more = training_step_losses(model, batch, LossWeights(similarity=1.0, quality=1.0))
    torch.testing.assert_close(more.loss - plain.loss, more.similarity + more.quality)
    assert more.similarity > 0
    more.similarity.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.clip.parameters())


def test_maps_are_pulled_where_points_come_from(
    model: ReadModel, batch: TrainingBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(
        train, "similarity_loss", lambda maps, _wanted, _size: seen.append(maps) or maps.sum()
    )
    losses = training_step_losses(model, batch, LossWeights(similarity=1.0), compared=[2])
    assert losses.segment_rows == (2,)
    assert len(seen[0]) == len(batch.masks) == 3
    torch.testing.assert_close(seen[0][2], losses.segments[0].similarity, atol=1e-4, rtol=1e-4)


def test_a_lost_seg_is_noticed(model: ReadModel, batch: TrainingBatch) -> None:
    with pytest.raises(ValueError, match=r"3 \[SEG\] but the batch brings 2 masks"):
        training_step_losses(model, replace(batch, masks=batch.masks[:2]))


def test_a_row_without_an_image_is_refused(model: ReadModel, batch: TrainingBatch) -> None:
    ids = batch.input_ids.clone()
    ids[1][ids[1] == -200] = 5
    with pytest.raises(ValueError, match="exactly one <image>, found 0"):
        training_step_losses(model, replace(batch, input_ids=ids))


def test_mask_losses_are_means_over_masks() -> None:
    logits = [torch.full((4, 4), 20.0), torch.full((2, 8), -20.0)]
    truths = [torch.ones(4, 4, dtype=torch.uint8), torch.ones(2, 8, dtype=torch.uint8)]
    bce, dice = mask_losses(logits, truths)
    assert bce.item() == pytest.approx((0 + 20) / 2, abs=1e-4)
    assert dice.item() == pytest.approx((0 + 1) / 2, abs=1e-3)


def test_dice_follows_its_formula() -> None:
    probability, truth = torch.tensor([[0.5, 0.25]]), torch.tensor([[1.0, 0.0]])
    expected = 1 - (2 * 0.5 / 1000 + 1e-6) / (1.75 / 1000 + 1e-6)
    assert dice_loss(probability, truth).item() == pytest.approx(expected)
