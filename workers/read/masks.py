"""From ``[SEG]`` states to masks: the one path that inference and training both take.

READ, sections "Similarity as Points" and "Mask": the state that predicted ``[SEG]`` gives a mask
query and, compared with the image tokens, points; SAM turns both into a mask.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from workers.read.config import SasPSettings
from workers.read.sam import Sam
from workers.read.sasp import SasPPoints, sasp_points


@dataclass(frozen=True, slots=True)
class SegToken:
    """One ``[SEG]`` and the image it speaks of.

    ``state`` (D,) is the language model's final-norm state that predicted the token;
    ``image_states`` (T, D) are the states of the image tokens in the same sequence; ``embedding``
    (P, g, g) is SAM's image embedding. ``image_hw`` is the original size, ``resized_hw`` the part
    of the SAM view that it fills, both in pixels.
    """

    state: Tensor
    image_states: Tensor
    embedding: Tensor
    image_hw: tuple[int, int]
    resized_hw: tuple[int, int]


@dataclass(frozen=True, slots=True)
class SegMask:
    """What one ``[SEG]`` became, with every step on the way.

    ``query`` (P,); ``similarity`` (T,) raw dot products; ``points`` in pixels of the original
    image, on the CPU (None when SasP is off); ``view_points`` (N, 2) the same in pixels of the SAM
    view; ``sparse`` (N + 2, P), or (1, P) without points; ``low_res`` (l, l) and ``logits``
    (H, W), the mask is ``logits > 0``; ``iou`` () as SAM predicts it. All float32.
    """

    query: Tensor
    similarity: Tensor
    points: SasPPoints | None
    view_points: Tensor
    sparse: Tensor
    low_res: Tensor
    iou: Tensor
    logits: Tensor


@dataclass(frozen=True, slots=True)
class _Prompt:
    query: Tensor
    similarity: Tensor
    points: SasPPoints | None
    view_points: Tensor
    labels: Tensor


def seg_masks(
    tokens: Sequence[SegToken], query_head: nn.Module, sam: Sam, sasp: SasPSettings | None
) -> list[SegMask]:
    """Turn ``[SEG]`` tokens, of any number of images, into masks, in the order given.

    Tokens with equally many points share one call of SAM's decoder. A map that is constant or not
    finite has no points, as when ``sasp`` is None: SAM is then prompted by the query alone. All of
    it runs in float32, within autocast too.
    """
    if not tokens:
        return []
    with torch.autocast(tokens[0].state.device.type, enabled=False):
        return _masks(tokens, query_head, sam, sasp)


def _masks(
    tokens: Sequence[SegToken], query_head: nn.Module, sam: Sam, sasp: SasPSettings | None
) -> list[SegMask]:
    prompts = _prompts(tokens, query_head, sasp)
    by_count: dict[int, list[int]] = defaultdict(list)
    for index, prompt in enumerate(prompts):
        by_count[len(prompt.labels)].append(index)
    masks: dict[int, SegMask] = {}
    for indices in by_count.values():
        decoded = _decode([tokens[i] for i in indices], [prompts[i] for i in indices], sam)
        masks.update(zip(indices, decoded, strict=True))
    return [masks[index] for index in range(len(tokens))]


def _prompts(
    tokens: Sequence[SegToken], query_head: nn.Module, sasp: SasPSettings | None
) -> list[_Prompt]:
    """Points are made on the CPU, which orders their cells: all maps go there at once."""
    maps = torch.stack([token.image_states.float() @ token.state.float() for token in tokens])
    moved = maps.cpu()
    return [
        _prompt(token, query_head, sasp, *pair)
        for token, *pair in zip(tokens, maps, moved, strict=True)
    ]


def _prompt(
    token: SegToken,
    query_head: nn.Module,
    sasp: SasPSettings | None,
    similarity: Tensor,
    moved: Tensor,
) -> _Prompt:
    points = None if sasp is None else sasp_points(moved, token.image_hw, sasp)
    if points is None:
        view_points, labels = similarity.new_zeros((0, 2)), similarity.new_zeros(0).long()
    else:
        view_points = _to_view(points.xy, token).to(similarity.device)
        labels = points.labels.to(similarity.device)
    query = query_head(token.state.to(next(query_head.parameters()).dtype)).float()
    return _Prompt(query, similarity, points, view_points, labels)


def _to_view(xy: Tensor, token: SegToken) -> Tensor:
    """Scale (x, y) in pixels of the original image to pixels of the SAM view."""
    (height, width), (view_height, view_width) = token.image_hw, token.resized_hw
    return xy * xy.new_tensor([view_width / width, view_height / height])


def _decode(tokens: list[SegToken], prompts: list[_Prompt], sam: Sam) -> list[SegMask]:
    sparse = sam.embed_prompts(
        points=torch.stack([prompt.view_points for prompt in prompts]),
        labels=torch.stack([prompt.labels for prompt in prompts]),
        queries=torch.stack([prompt.query for prompt in prompts]),
    )
    low_res, iou = sam.decode(torch.stack([token.embedding for token in tokens]), sparse)
    return [
        SegMask(
            query=prompt.query,
            similarity=prompt.similarity,
            points=prompt.points,
            view_points=prompt.view_points,
            sparse=sparse[row],
            low_res=low_res[row, 0],
            iou=iou[row, 0],
            logits=sam.upscale(low_res[row : row + 1], token.resized_hw, token.image_hw)[0],
        )
        for row, (token, prompt) in enumerate(zip(tokens, prompts, strict=True))
    ]
