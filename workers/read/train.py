"""One training step: batch to losses (READ, section "Training").

Every image is encoded once, however many rows ask about it, and its rows share the states of their
common beginning; every row may hold any number of ``[SEG]``, each with its own ground-truth mask.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from workers.read.auxiliary import central_coverage, quality_loss, similarity_loss
from workers.read.beginnings import common_beginning, shared_hidden
from workers.read.masks import SegMask, SegToken
from workers.read.model import ReadModel, image_place

IGNORED = -100
DICE_SCALE = 1000.0
DICE_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Weights of READ's three losses; Dice is 4 when the 7B model is trained from scratch.

    ``similarity`` and ``quality`` are not READ's, see :mod:`workers.read.auxiliary`.
    """

    ce: float = 1.0
    bce: float = 2.0
    dice: float = 0.5
    similarity: float = 0.0
    quality: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """B images and R rows (question with answer) about them.

    ``clip_views`` (B, 3, c, c), ``sam_views`` (B, 3, s, s), or (0, 3, s, s) when no mask is going
    to be compared; per image ``image_hw`` and
    ``resized_hw`` in pixels. Per row: ``image_index`` into the images, ``input_ids`` (R, L) int64
    padded on the right with one -200 each, ``labels`` (R, L) int64 with -100 where the loss looks
    away. ``masks`` holds, row after row and in the order of the row's ``[SEG]`` tokens, one
    (H, W) truth in [0, 1] of the image's original size for each token. ``seg_id`` is the
    tokenizer's id of ``[SEG]``.
    """

    clip_views: Tensor
    sam_views: Tensor
    image_hw: Sequence[tuple[int, int]]
    resized_hw: Sequence[tuple[int, int]]
    image_index: Sequence[int]
    input_ids: Tensor
    labels: Tensor
    masks: Sequence[Tensor]
    seg_id: int


@dataclass(frozen=True, slots=True)
class TrainingLosses:
    """Weighted losses () and what they were computed from.

    ``loss`` is the sum of the other five. ``segments`` are the ``[SEG]`` that were compared, in
    order, each with its similarity map (T,), points and mask logits; ``segment_rows`` names the row
    of each, and ``embedding`` (A, P, g, g) is SAM's of their A images, in order. ``hidden``
    (R, L, D) are the states of all rows, and ``seg_states`` the row and the position of the state
    that predicted each ``[SEG]``. ``image_tokens`` (B, T, D) are what the language model got of
    the pictures. So a recipe can add losses of its own.
    """

    loss: Tensor
    ce: Tensor
    bce: Tensor
    dice: Tensor
    similarity: Tensor
    quality: Tensor
    segments: tuple[SegMask, ...]
    segment_rows: tuple[int, ...]
    embedding: Tensor
    hidden: Tensor
    seg_states: tuple[tuple[int, int], ...]
    image_tokens: Tensor


def training_step_losses(
    model: ReadModel,
    batch: TrainingBatch,
    weights: LossWeights | None = None,
    compared: Sequence[int] | None = None,
) -> TrainingLosses:
    """Run the model on a batch, teacher-forced, and compute its losses.

    ``compared`` names the ``[SEG]`` whose masks are made and compared, of those the batch has in
    order; None means all.

    Raises:
        ValueError: a row has no or several placeholders, or the batch has not one mask a ``[SEG]``.
    """
    weights = weights or LossWeights()
    rows = range(len(batch.input_ids))
    places = [image_place(batch.input_ids[row]) for row in rows]
    image_tokens = model.image_tokens(model.clip_features(batch.clip_views))
    embeddings = _embeddings(model, batch, image_tokens, places)
    shared = common_beginning(batch.input_ids, image_tokens.shape[1])
    hidden = shared_hidden(model, embeddings, batch.image_index, shared)
    ce = weights.ce * _answer_loss(model, hidden, batch.labels, places)
    seg_states = _seg_states(batch, hidden, places)
    chosen = range(len(seg_states)) if compared is None else compared
    masks = _masks_of(batch, seg_states, chosen)
    segment_rows = [seg_states[index][0] for index in chosen]
    embedding = _embedding(model, batch, segment_rows)
    tokens = _seg_tokens(batch, hidden, embedding, [seg_states[i] for i in chosen], places)
    segments = model.masks(tokens)
    bce, dice = mask_losses([segment.logits for segment in segments], masks)
    bce, dice = weights.bce * bce, weights.dice * dice
    similarity, quality = torch.zeros(()), torch.zeros(())
    if weights.similarity and seg_states:
        maps = _similarity_maps(hidden, seg_states, places, image_tokens.shape[1])
        coverage = central_coverage(batch.masks, model.config.clip.side)
        similarity = weights.similarity * similarity_loss(maps, coverage, hidden.shape[2])
    if weights.quality and segments:
        quality = weights.quality * quality_loss(segments, masks)
    return TrainingLosses(
        loss=ce + bce + dice + similarity + quality,
        ce=ce,
        bce=bce,
        dice=dice,
        similarity=similarity,
        quality=quality,
        segments=tuple(segments),
        segment_rows=tuple(segment_rows),
        embedding=embedding,
        hidden=hidden,
        seg_states=tuple(seg_states),
        image_tokens=image_tokens,
    )


def mask_losses(logits: Sequence[Tensor], truths: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean binary cross-entropy and Dice loss () over pairs of logits and truth, both (H, W)."""
    if not logits:
        return torch.zeros(()), torch.zeros(())
    pairs = [(one, truth.float()) for one, truth in zip(logits, truths, strict=True)]
    bce = [functional.binary_cross_entropy_with_logits(one, truth) for one, truth in pairs]
    dice = [dice_loss(one.sigmoid(), truth) for one, truth in pairs]
    return torch.stack(bce).mean(), torch.stack(dice).mean()


def dice_loss(probability: Tensor, truth: Tensor) -> Tensor:
    """One minus the soft Dice coefficient of (H, W) probabilities; sums are scaled by 1/1000."""
    overlap = 2 * (probability / DICE_SCALE * truth).sum()
    total = (probability / DICE_SCALE).sum() + (truth / DICE_SCALE).sum()
    return 1 - (overlap + DICE_EPSILON) / (total + DICE_EPSILON)


def _embeddings(
    model: ReadModel, batch: TrainingBatch, image_tokens: Tensor, places: Sequence[int]
) -> Tensor:
    """Embedded rows (R, L - 1 + T, D) with the image tokens (B, T, D) of their pictures."""
    index = torch.tensor(batch.image_index, device=image_tokens.device)
    tokens = image_tokens.index_select(0, index)
    if len(set(places)) == 1:
        return model.embed(batch.input_ids, tokens)
    return torch.stack(
        [model.embed(ids, own) for ids, own in zip(batch.input_ids, tokens, strict=True)]
    )


def _answer_loss(model: ReadModel, hidden: Tensor, labels: Tensor, places: Sequence[int]) -> Tensor:
    """Mean cross-entropy over every labeled token of the batch; each is predicted one before.

    Nothing predicts the first token of a row, so its label does not count.
    """
    rows, columns = (labels[:, 1:] != IGNORED).nonzero().unbind(1)
    columns = columns + 1
    positions = _expanded(rows, columns, places, hidden.shape[1] - labels.shape[1]) - 1
    return functional.cross_entropy(
        model.logits(states_at(hidden, rows, positions)), labels[rows, columns]
    )


def _seg_states(
    batch: TrainingBatch, hidden: Tensor, places: Sequence[int]
) -> list[tuple[int, int]]:
    """Row and position of the state that predicted each ``[SEG]`` of the answers, in row order."""
    answers = (batch.input_ids == batch.seg_id) & (batch.labels != IGNORED)
    rows, columns = answers.nonzero().unbind(1)
    positions = _expanded(rows, columns, places, hidden.shape[1] - batch.labels.shape[1]) - 1
    return list(zip(rows.tolist(), positions.tolist(), strict=True))


def _masks_of(
    batch: TrainingBatch, seg_states: Sequence[tuple[int, int]], chosen: Sequence[int]
) -> list[Tensor]:
    if len(seg_states) != len(batch.masks):
        raise ValueError(
            f"the rows hold {len(seg_states)} [SEG] but the batch brings {len(batch.masks)} masks; "
            "was an answer cut before its [SEG]?"
        )
    return [batch.masks[index] for index in chosen]


def _embedding(model: ReadModel, batch: TrainingBatch, segment_rows: Sequence[int]) -> Tensor:
    """SAM's embedding (A, P, g, g) of the images with a mask to compare, and of no other."""
    images = _images_of(batch, segment_rows)
    return model.sam_embedding(batch.sam_views[images]) if images else batch.sam_views.new_zeros(0)


def _images_of(batch: TrainingBatch, rows: Sequence[int]) -> list[int]:
    return sorted({batch.image_index[row] for row in rows})


def _similarity_maps(
    hidden: Tensor, seg_states: Sequence[tuple[int, int]], places: Sequence[int], count: int
) -> Tensor:
    """Similarity (M, T), in float32, of each ``[SEG]`` to its picture's image tokens."""
    states, image_states = _seg_and_image_states(hidden, seg_states, places, count)
    return (image_states * states[:, None]).float().sum(dim=-1)


def _seg_tokens(
    batch: TrainingBatch,
    hidden: Tensor,
    embedding: Tensor,
    seg_states: Sequence[tuple[int, int]],
    places: Sequence[int],
) -> list[SegToken]:
    if not seg_states:
        return []
    numbers = _images_of(batch, [row for row, _ in seg_states])
    embeddings = dict(zip(numbers, embedding, strict=True))
    count = hidden.shape[1] - batch.input_ids.shape[1] + 1
    states, image_states = _seg_and_image_states(hidden, seg_states, places, count)
    images = [batch.image_index[row] for row, _ in seg_states]
    return [
        SegToken(
            state=state,
            image_states=around,
            embedding=embeddings[image],
            image_hw=batch.image_hw[image],
            resized_hw=batch.resized_hw[image],
        )
        for state, around, image in zip(states, image_states, images, strict=True)
    ]


def _seg_and_image_states(
    hidden: Tensor, seg_states: Sequence[tuple[int, int]], places: Sequence[int], count: int
) -> tuple[Tensor, Tensor]:
    """States (M, D) of ``[SEG]`` tokens, and (M, T, D) of the image tokens of their rows."""
    rows, positions = torch.tensor(seg_states, device=hidden.device).unbind(1)
    starts = torch.tensor([places[row] for row, _ in seg_states], device=hidden.device)
    tokens = starts[:, None] + torch.arange(count, device=hidden.device)
    return states_at(hidden, rows, positions), states_at(hidden, rows[:, None], tokens)


def states_at(hidden: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
    """The states (..., D) of ``hidden`` (R, L, D) at rows and positions (...).

    All at once: the gradient of each single choice would be as large as ``hidden``.
    """
    index = rows * hidden.shape[1] + positions
    return hidden.flatten(0, 1).index_select(0, index.flatten()).unflatten(0, index.shape)


def _expanded(rows: Tensor, columns: Tensor, places: Sequence[int], extra: int) -> Tensor:
    """Positions in sequences whose placeholders were replaced by ``extra`` + 1 image tokens."""
    place = torch.tensor(places, device=rows.device)[rows]
    return columns + extra * (columns > place)
