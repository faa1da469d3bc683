"""Something direct to learn for encoders that have not seen such pictures: read-outs.

Through the language model and SAM's decoder, an encoder learns slowly what sets a tree apart from a
building. A linear read-out tells of each cell of SAM's image embedding, and of each image token,
whether a query's object is there. The read-outs are trained along, and not kept. They need neither
the language model nor the decoder, so a step can show many more pictures than it asks about.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from workers.read.auxiliary import central_coverage
from workers.read.batches import TaughtPicture, shrink, stack
from workers.read.config import ReadConfig
from workers.read.images import clip_view, sam_view
from workers.read.model import ReadModel

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Reading:
    """B pictures for the encoders alone, and what is true of Q queries.

    ``clip_views`` (B, 3, c, c) and ``sam_views`` (B, 3, s, s). Shares in [0, 1]: ``cells``
    (B, Q, g, g) is how much of SAM's cells the query's object covers, ``tokens`` (B, Q, T) how much
    of the image tokens, ``filled`` (B, g, g) how much of SAM's cells the picture fills. ``known``
    (B, Q) is 1 where the picture has a row about the query, else 0.
    """

    clip_views: Tensor
    sam_views: Tensor
    cells: Tensor
    tokens: Tensor
    filled: Tensor
    known: Tensor

    def to(self, device: str) -> "Reading":
        """Return the reading on a device."""
        return Reading(
            clip_views=self.clip_views.to(device),
            sam_views=self.sam_views.to(device),
            cells=self.cells.to(device),
            tokens=self.tokens.to(device),
            filled=self.filled.to(device),
            known=self.known.to(device),
        )


def build_reading(
    pictures: Sequence[TaughtPicture], questions: Sequence[str], config: ReadConfig
) -> Reading:
    """Build a reading; ``questions`` are the queries' own, in the template of the pictures' rows.

    A query's object is what all masks of its rows cover; rows without masks say there is none.
    """
    views = [sam_view(picture.image, config.sam.image) for picture in pictures]
    truths = [
        _truth(picture, size, questions, config)
        for picture, (_, size) in zip(pictures, views, strict=True)
    ]
    return Reading(
        clip_views=stack([clip_view(picture.image, config.clip_view) for picture in pictures]),
        sam_views=stack([view for view, _ in views]),
        cells=torch.stack([truth.cells for truth in truths]),
        tokens=torch.stack([truth.tokens for truth in truths]),
        filled=torch.stack([_cells(np.ones(size, np.bool_), size, config) for _, size in views]),
        known=torch.stack([truth.known for truth in truths]),
    )


class ReadOuts(nn.Module):
    """A linear read-out of SAM's cells and one of the image tokens for each of Q queries."""

    def __init__(self, config: ReadConfig, queries: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.cells = nn.Linear(config.sam.prompt, queries)
            self.tokens = nn.Linear(config.llama.hidden, queries)

    def forward(self, model: ReadModel, reading: Reading) -> Tensor:
        """Return the loss () of both read-outs, a mean over pictures.

        A picture's is the mean cross-entropy over all that it fills, summed over its known queries.
        """
        embedding = model.sam_embedding(reading.sam_views).float()
        states = model.image_tokens(model.clip_features(reading.clip_views)).float()
        cells = self.cells(embedding.movedim(1, -1)).movedim(-1, 1)
        tokens = self.tokens(states).movedim(-1, 1)
        filled = reading.filled.flatten(1)
        of_cells = _entropy(cells.flatten(2), reading.cells.flatten(2), filled)
        of_tokens = _entropy(tokens, reading.tokens, torch.ones_like(reading.tokens[:, 0]))
        return ((of_cells + of_tokens) * reading.known).sum(dim=1).mean()


def _entropy(logits: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    """Mean cross-entropy (B, Q) over places of (B, Q, T), of which ``weight`` (B, T) counts."""
    losses = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return (losses * weight[:, None]).sum(dim=2) / weight.sum(dim=1, keepdim=True)


@dataclass(frozen=True, slots=True)
class _Truth:
    """``cells`` (Q, g, g), ``tokens`` (Q, T) and ``known`` (Q,) of one picture, as a reading's."""

    cells: Tensor
    tokens: Tensor
    known: Tensor


def _truth(
    picture: TaughtPicture, size: tuple[int, int], questions: Sequence[str], config: ReadConfig
) -> _Truth:
    """Return what is true of a picture that fills (height, width) of SAM's view."""
    grid, side = config.sam.grid, config.clip.side
    known = torch.zeros(len(questions))
    cells = torch.zeros(len(questions), grid, grid)
    tokens = torch.zeros(len(questions), side * side)
    for place, question in enumerate(questions):
        rows = [row for row in picture.rows if row.question == question]
        known[place] = bool(rows)
        masks = [mask for row in rows for mask in row.masks]
        if masks:
            object_ = np.logical_or.reduce(masks)
            cells[place] = _cells(object_, size, config)
            tokens[place] = central_coverage([torch.from_numpy(object_)], side)[0]
    return _Truth(cells, tokens, known)


def _cells(object_: Mask, size: tuple[int, int], config: ReadConfig) -> Tensor:
    """Return which share of SAM's cells an object (H, W) covers, (g, g)."""
    side, (height, width) = config.sam.image, size
    shown = np.zeros((side, side), np.float32)
    shown[:height, :width] = shrink(object_, size)
    return functional.adaptive_avg_pool2d(torch.from_numpy(shown)[None], config.sam.grid)[0]
