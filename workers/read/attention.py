"""The attention of CLIP and LLaMA, which Hugging Face's models know by a name.

It is their scaled dot-product attention, but for two things. Several rows about one picture may lie
side by side behind their common beginning (:mod:`workers.read.beginnings`). And under autocast on a
CPU the scores are plain products of matrices: processors have bfloat16 instructions for those,
which torch's fused attention does not use.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ATTENTION = "read"
"""What Hugging Face's configurations call it."""


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    shared: int = 0,
    own: int = 0,
    **options: Any,  # noqa: ANN401 - whatever transformers' own functions take
) -> tuple[Tensor, None]:
    """Attention of query (B, h, L, d) to key and value (B, k, L, d): (B, L, h, d).

    With ``shared``, the first so many positions are a beginning, and what follows are ends of
    ``own`` positions, each of which sees the beginning and itself, causally; the mask is ignored.
    """
    if not shared:
        return _attend(module, query, key, value, attention_mask, options=options), None
    beginning = query[:, :, :shared], key[:, :, :shared], value[:, :, :shared]
    starts = _attend(module, *beginning, None, options=options)
    slots = (query.shape[2] - shared) // own
    seen_keys, seen_values = (
        torch.cat([seen.repeat_interleave(slots, dim=0), _ends(states, shared, own)], dim=2)
        for seen, states in zip(beginning[1:], (key, value), strict=True)
    )
    causal = torch.ones((own, shared + own), dtype=torch.bool, device=query.device).tril(shared)
    ends = _ends(query, shared, own)
    states = _attend(module, ends, seen_keys, seen_values, causal[None, None], options=options)
    return torch.cat([starts, states.unflatten(0, (-1, slots)).flatten(1, 2)], dim=1), None


def _ends(states: Tensor, shared: int, own: int) -> Tensor:
    """The ends (B * slots, h, own, d) of states (B, h, shared + slots * own, d)."""
    return states[:, :, shared:].unflatten(2, (-1, own)).transpose(1, 2).flatten(0, 1)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    options: dict[str, Any],
) -> Tensor:
    if query.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        causal = options.get("is_causal")
        causal = module.is_causal if causal is None else causal
        return _attend_plainly(query * options["scaling"], key, value, mask, causal=bool(causal))
    return sdpa_attention_forward(module, query, key, value, mask, **options)[0]


def _attend_plainly(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, causal: bool
) -> Tensor:
    groups = query.shape[1] // key.shape[1]
    scores = query @ repeat_kv(key, groups).transpose(2, 3)
    if mask is None and causal:
        mask = torch.ones(scores.shape[2:], dtype=torch.bool).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return (scores.softmax(dim=-1) @ repeat_kv(value, groups)).transpose(1, 2)


AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
