"""Rows about one picture share their beginning: faster training, the same numbers.

They begin with the same system sentence and the same image tokens, four fifths of their length or
more. Attention is causal, so those states do not depend on what follows: they are computed once a
picture, with the rows' own ends side by side behind them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from workers.read.model import ReadModel, image_place


def common_beginning(input_ids: Tensor, image_tokens: int) -> int:
    """Return how many positions all rows (R, L) begin with alike, apart from their pictures.

    Counted with ``image_tokens`` in the place of the placeholder. 0 if they differ before it;
    less than the whole length.
    """
    same = (input_ids == input_ids[:1]).all(dim=0).int().cumprod(dim=0)
    length = min(int(same.sum()), input_ids.shape[1] - 1)
    return length - 1 + image_tokens if length > image_place(input_ids[0]) else 0


def shared_hidden(
    model: ReadModel, embeddings: Tensor, image_index: Sequence[int], shared: int
) -> Tensor:
    """States (R, L, D) after the final norm, as :meth:`ReadModel.hidden` returns.

    Args:
        model: whose language model runs.
        embeddings: (R, L, D), equal in the first ``shared`` positions where rows have the same
            picture.
        image_index: the number of each row's picture.
        shared: fewer positions than L.
    """
    numbers = sorted(set(image_index))
    if not shared or len(numbers) == len(image_index):
        return model.hidden(embeddings)
    groups = [[row for row, one in enumerate(image_index) if one == n] for n in numbers]
    own, slots = embeddings.shape[1] - shared, max(len(rows) for rows in groups)
    picture = torch.tensor([number for number, rows in enumerate(groups) for _ in rows])
    slot = torch.tensor([place for rows in groups for place, _ in enumerate(rows)])
    order = torch.tensor([row for rows in groups for row in rows])
    starts = embeddings[[rows[0] for rows in groups], :shared]
    ends = embeddings.new_zeros((len(groups), slots, own, embeddings.shape[2]))
    ends[picture, slot] = embeddings[order, shared:]
    mask, positions = (part.to(embeddings.device) for part in _layout(shared, slots, own))
    states = model.llama.model(
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
