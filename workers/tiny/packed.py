"""A ReadModel that shares the beginning of its rows: faster training, the same numbers.

All rows about one picture begin with the same system sentence and the same image tokens, four
fifths of their length. Attention is causal, so those states do not depend on what follows: they
are computed once a picture, and the rows' own ends side by side behind them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import DynamicCache

from workers.read.model import ReadModel


@dataclass(slots=True)
class Shared:
    """Which rows begin alike, how far, and what one forward pass computed.

    ``groups`` lists the rows of each picture; ``length`` counts positions. ``hidden`` are the
    last (R, L, D) states and ``embedding`` the last (B, P, g, g) of SAM, once they are known.
    """

    groups: tuple[tuple[int, ...], ...]
    length: int
    hidden: Tensor = field(default_factory=lambda: torch.zeros(0))
    embedding: Tensor = field(default_factory=lambda: torch.zeros(0))


class PackedReadModel(ReadModel):
    """A ReadModel that can be told, for a while, which rows begin alike."""

    _now: Shared | None = None

    @contextmanager
    def sharing(self, image_index: Sequence[int], length: int) -> Iterator[Shared]:
        """Inside, rows (R,) of equal ``image_index`` have their first ``length`` states alike."""
        images = sorted(set(image_index))
        groups = (
            tuple(row for row, one in enumerate(image_index) if one == image) for image in images
        )
        self._now = Shared(tuple(groups), length)
        try:
            yield self._now
        finally:
            self._now = None

    def sam_embedding(self, views: Tensor) -> Tensor:
        """Image embeddings (B, P, g, g), see :meth:`ReadModel.sam_embedding`."""
        embedding = super().sam_embedding(views)
        if self._now is not None:
            self._now.embedding = embedding
        return embedding

    def hidden(self, embeddings: Tensor, cache: DynamicCache | None = None) -> Tensor:
        """States (R, L, D) after the final norm, see :meth:`ReadModel.hidden`."""
        if self._now is None or cache is not None:
            return super().hidden(embeddings, cache)
        self._now.hidden = self._packed(embeddings, self._now.groups, self._now.length)
        return self._now.hidden

    def _packed(
        self, embeddings: Tensor, groups: tuple[tuple[int, ...], ...], shared: int
    ) -> Tensor:
        own, slots = embeddings.shape[1] - shared, max(len(rows) for rows in groups)
        picture = torch.tensor([number for number, rows in enumerate(groups) for _ in rows])
        slot = torch.tensor([place for rows in groups for place, _ in enumerate(rows)])
        order = torch.tensor([row for rows in groups for row in rows])
        starts = embeddings[[rows[0] for rows in groups], :shared]
        ends = embeddings.new_zeros((len(groups), slots, own, embeddings.shape[2]))
        ends[picture, slot] = embeddings[order, shared:]
        mask, positions = (part.to(embeddings.device) for part in _layout(shared, slots, own))
        states = self.llama.model(
            inputs_embeds=torch.cat([starts, ends.flatten(1, 2)], dim=1),
            attention_mask=mask.expand(len(groups), 1, -1, -1),
            position_ids=positions[None],
            use_cache=False,
        ).last_hidden_state
        ends = states[:, shared:].unflatten(1, (slots, own))[picture, slot]
        return torch.cat([states[picture, :shared], ends], dim=1)[order.argsort()]


def _layout(shared: int, slots: int, own: int) -> tuple[Tensor, Tensor]:
    """Who sees whom, bool (T, T), and positions (T,), of a shared start and ``slots`` ends."""
    total = shared + slots * own
    mask = torch.zeros((total, total), dtype=torch.bool)
    mask[:, :shared] = True
    mask[:shared] = torch.ones((shared, total), dtype=torch.bool).tril()
    triangle = torch.ones((own, own), dtype=torch.bool).tril()
    for slot in range(slots):
        part = slice(shared + slot * own, shared + (slot + 1) * own)
        mask[part, part] = triangle
    ends = torch.arange(shared, shared + own).repeat(slots)
    return mask, torch.cat([torch.arange(shared), ends])
