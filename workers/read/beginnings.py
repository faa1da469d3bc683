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
    device = embeddings.device
    firsts = torch.tensor([rows[0] for rows in groups], device=device)
    padded = [[*rows, *rows[:1] * (slots - len(rows))] for rows in groups]
    ends = embeddings[:, shared:].index_select(0, torch.tensor(padded, device=device).flatten())
    starts = embeddings[:, :shared].index_select(0, firsts)
    positions = torch.arange(shared + own, device=device)
    states = model.llama.model(
        inputs_embeds=torch.cat([starts, ends.reshape(len(groups), slots * own, -1)], dim=1),
        attention_mask=torch.ones((1, 1, 1, 1), dtype=torch.bool, device=device),
        position_ids=torch.cat([positions[:shared], positions[shared:].repeat(slots)])[None],
        use_cache=False,
        shared=shared,
        own=own,
    ).last_hidden_state
    picture = torch.tensor([numbers.index(one) for one in image_index], device=device)
    place = {
        row: group * slots + slot
        for group, rows in enumerate(groups)
        for slot, row in enumerate(rows)
    }
    slot = torch.tensor([place[row] for row in range(len(image_index))], device=device)
    ends = states[:, shared:].reshape(len(groups) * slots, own, -1).index_select(0, slot)
    return torch.cat([states[:, :shared].index_select(0, picture), ends], dim=1)
