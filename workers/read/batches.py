"""From pictures with questions and answers to the tensors of a training step."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.read.config import ReadConfig
from workers.read.errors import QueryError
from workers.read.images import clip_view, sam_size, sam_view
from workers.read.prompt import PromptSettings, prompt
from workers.read.tokenizer import ReadTokenizer
from workers.read.train import IGNORED, TrainingBatch


@dataclass(frozen=True, slots=True)
class TaughtRow:
    """A question, in its template, with the answer to give.

    ``masks`` holds one bool (H, W) of the picture's size for each ``[SEG]`` of the answer.
    """

    question: str
    answer: str
    masks: tuple[NDArray[np.bool_], ...] = ()


@dataclass(frozen=True, slots=True)
class TaughtPicture:
    """A picture, uint8 RGB (H, W, 3), with the rows about it."""

    image: NDArray[np.uint8]
    rows: tuple[TaughtRow, ...]


def build_batch(
    pictures: Sequence[TaughtPicture],
    config: ReadConfig,
    settings: PromptSettings,
    tokenizer: ReadTokenizer,
    loss_side: int | None = None,
    *,
    masks_compared: bool = True,
) -> TrainingBatch:
    """Build a batch of every row of all pictures, in their order.

    ``loss_side`` is the longest side, in pixels, at which masks are compared; None: the pictures'.
    Where none is compared the batch has no views for SAM.

    Raises:
        QueryError: a row is longer than the model's context.
    """
    side = config.sam.image
    seen = pictures if masks_compared else ()
    sam_views = [sam_view(picture.image, side)[0] for picture in seen]
    rows = [(number, row) for number, one in enumerate(pictures) for row in one.rows]
    texts = [(row.question, row.answer) for _, row in rows]
    input_ids, labels = encode_rows(texts, settings, tokenizer)
    positions = _positions(input_ids.shape[1], config)
    if positions > config.llama.max_positions:
        raise QueryError(
            f"question and answer take {positions} positions, the model has "
            f"{config.llama.max_positions}; shorten the query"
        )
    sizes = [loss_size(picture.image, loss_side) for picture in pictures]
    return TrainingBatch(
        clip_views=stack([clip_view(picture.image, config.clip_view) for picture in pictures]),
        sam_views=stack(sam_views) if sam_views else torch.zeros((0, 3, side, side)),
        image_hw=sizes,
        resized_hw=[
            sam_size((picture.image.shape[0], picture.image.shape[1]), side) for picture in pictures
        ],
        image_index=[number for number, _ in rows],
        input_ids=input_ids,
        labels=labels,
        masks=[
            torch.from_numpy(shrink(mask, sizes[number]))
            for number, row in rows
            for mask in row.masks
        ],
        seg_id=tokenizer.seg_id,
    )


def encode_rows(
    texts: Sequence[tuple[str, str]], settings: PromptSettings, tokenizer: ReadTokenizer
) -> tuple[Tensor, Tensor]:
    """Encode (question, answer) pairs: ids and labels, both (R, L) int64, padded on the right."""
    rows = []
    for question, answer in texts:
        ids = tokenizer.encode_prompt(prompt(question, settings, answer))
        rows.append((ids, len(tokenizer.encode_prompt(prompt(question, settings)))))
    length = max(len(ids) for ids, _ in rows)
    input_ids = torch.full((len(rows), length), tokenizer.pad_id)
    labels = torch.full((len(rows), length), IGNORED)
    for row, (ids, answer_at) in enumerate(rows):
        input_ids[row, : len(ids)] = torch.tensor(ids)
        labels[row, answer_at : len(ids)] = torch.tensor(ids[answer_at:])
    return input_ids, labels


def loss_size(picture: NDArray[np.generic], longest: int | None) -> tuple[int, int]:
    """Return the (height, width) at which a picture's masks are compared."""
    height, width = picture.shape[:2]
    factor = 1.0 if longest is None else min(1.0, longest / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def shrink(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return how much of each pixel of a smaller (height, width) picture the mask covers."""
    if mask.shape == size:
        return mask.astype(np.float32)
    small = cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)


def fits_context(
    question: str,
    answer: str,
    config: ReadConfig,
    settings: PromptSettings,
    tokenizer: ReadTokenizer,
) -> bool:
    """Return whether a question, in its template, and an answer fit the model's context."""
    ids = tokenizer.encode_prompt(prompt(question, settings, answer))
    return _positions(len(ids), config) <= config.llama.max_positions


def _positions(tokens: int, config: ReadConfig) -> int:
    """Return the positions of a row: one of its tokens stands for the whole picture."""
    return tokens - 1 + config.clip.side**2


def stack(arrays: Sequence[NDArray[np.float32]]) -> Tensor:
    """Return arrays of one shape as one tensor with a first dimension more."""
    return torch.from_numpy(np.stack(arrays))
