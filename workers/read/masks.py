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
class EmbeddedImage:
    """What SAM's decoder knows of an image.

    ``embedding`` (P, g, g); ``image_hw`` is the original size, ``resized_hw`` the part of the SAM
    view that it fills, both in pixels.
    """

    embedding: Tensor
    image_hw: tuple[int, int]
    resized_hw: tuple[int, int]


@dataclass(frozen=True, slots=True)
class MaskPrompt:
    """What SAM's decoder is asked.

    ``query`` (P,) on the model's device; ``points`` (N, 2) are (x, y) in pixels of the original
    image and ``labels`` (N,) 1, 0 or -1, wherever they are.
    """

    query: Tensor
    points: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True)
class DecodedMask:
    """What SAM's decoder made of a prompt; see :class:`SegMask` for the shapes."""

    view_points: Tensor
    sparse: Tensor
    low_res: Tensor
    iou: Tensor
    logits: Tensor


@dataclass(frozen=True, slots=True)
class _Steps:
    similarity: Tensor
    points: SasPPoints | None
    prompt: MaskPrompt


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
    steps = _steps_of(tokens, query_head, sasp)
    asked = [
        (EmbeddedImage(token.embedding, token.image_hw, token.resized_hw), step.prompt)
        for token, step in zip(tokens, steps, strict=True)
    ]
    by_count: dict[int, list[int]] = defaultdict(list)
    for index, step in enumerate(steps):
        by_count[len(step.prompt.labels)].append(index)
    decoded: dict[int, DecodedMask] = {}
    for indices in by_count.values():
        together = decode_masks([asked[i] for i in indices], sam)
        decoded.update(zip(indices, together, strict=True))
    return [_seg_mask(step, decoded[index]) for index, step in enumerate(steps)]


def decode_masks(asked: Sequence[tuple[EmbeddedImage, MaskPrompt]], sam: Sam) -> list[DecodedMask]:
    """Decode prompts, all with equally many points, of any images in one call of SAM's decoder."""
    device = asked[0][0].embedding.device
    view_points = [_to_view(prompt.points, image).to(device) for image, prompt in asked]
    sparse = sam.embed_prompts(
        points=torch.stack(view_points),
        labels=torch.stack([prompt.labels.to(device) for _, prompt in asked]),
        queries=torch.stack([prompt.query for _, prompt in asked]),
    )
    low_res, iou = sam.decode(torch.stack([image.embedding for image, _ in asked]), sparse)
    return [
        DecodedMask(
            view_points=view_points[row],
            sparse=sparse[row],
            low_res=low_res[row, 0],
            iou=iou[row, 0],
            logits=sam.upscale(low_res[row : row + 1], image.resized_hw, image.image_hw)[0],
        )
        for row, (image, _) in enumerate(asked)
    ]


def _steps_of(
    tokens: Sequence[SegToken], query_head: nn.Module, sasp: SasPSettings | None
) -> list[_Steps]:
    """Points are made on the CPU, which orders their cells: all maps go there at once."""
    maps = torch.stack([token.image_states.float() @ token.state.float() for token in tokens])
    steps = []
    for token, similarity, moved in zip(tokens, maps, maps.cpu(), strict=True):
        points = None if sasp is None else sasp_points(moved, token.image_hw, sasp)
        if points is None:
            xy, labels = moved.new_zeros((0, 2)), moved.new_zeros(0).long()
        else:
            xy, labels = points.xy, points.labels
        query = query_head(token.state.to(next(query_head.parameters()).dtype)).float()
        steps.append(_Steps(similarity, points, MaskPrompt(query, xy, labels)))
    return steps


def _to_view(xy: Tensor, image: EmbeddedImage) -> Tensor:
    """Scale (x, y) in pixels of the original image to pixels of the SAM view."""
    (height, width), (view_height, view_width) = image.image_hw, image.resized_hw
    return xy * xy.new_tensor([view_width / width, view_height / height])


def _seg_mask(steps: _Steps, decoded: DecodedMask) -> SegMask:
    return SegMask(
        query=steps.prompt.query,
        similarity=steps.similarity,
        points=steps.points,
        view_points=decoded.view_points,
        sparse=decoded.sparse,
        low_res=decoded.low_res,
        iou=decoded.iou,
        logits=decoded.logits,
    )
