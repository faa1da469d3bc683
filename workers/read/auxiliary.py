"""Losses that READ does not have, for models that learn to see while they learn to segment.

READ begins with encoders that know photographs and never pulls on two of its own outputs: the
similarity map, which SasP's points come from, and the IoU that SAM predicts for its mask.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from workers.read.masks import SegMask

_SHARPNESS = 1.4
"""Dot products of final-norm states grow with the root of their size: so they become logits."""

_OBJECT = 4
"""So much more the best cells of an object count: objects cover few cells."""


def similarity_loss(maps: Tensor, coverage: Tensor, size: int) -> Tensor:
    """Distance () of the similarity maps (M, T) from the coverage (M, T) of their objects.

    Cross-entropy sets objects apart from all else; the squared error of the min-max map, which is
    what SasP thresholds, puts the best cells where the object covers most. ``size`` is that of the
    states whose dot products the maps are.
    """
    wanted = of_best_cell(coverage)
    low, high = maps.amin(dim=1, keepdim=True), maps.amax(dim=1, keepdim=True)
    normalized = (maps - low) / (high - low).clamp(min=1e-6)
    distance = (normalized - wanted).square() * (1 + _OBJECT * wanted)
    return map_entropy(maps, wanted, size) + 2 * distance.mean()


def map_entropy(maps: Tensor, wanted: Tensor, size: int) -> Tensor:
    """Cross-entropy () of similarity maps (M, T), as logits, to what is wanted (M, T) in [0, 1].

    A map of which nothing is wanted learns to be low everywhere. ``size`` is that of the states.
    """
    entropy = functional.binary_cross_entropy_with_logits(
        maps * (_SHARPNESS / size**0.5), wanted, reduction="none"
    )
    return (entropy * (1 + _OBJECT * wanted)).mean()


def of_best_cell(coverage: Tensor) -> Tensor:
    """Coverage (M, T) as a share of each object's best cell, which a small object does not fill."""
    return coverage / coverage.amax(dim=1, keepdim=True).clamp(min=1e-3)


def central_coverage(truths: Sequence[Tensor], side: int) -> Tensor:
    """How much of each cell of the central square the truths (H, W) cover, (M, side * side).

    The central square is what CLIP sees of a picture.
    """
    cells = []
    for truth in truths:
        height, width = truth.shape
        edge = min(height, width)
        top, left = (height - edge) // 2, (width - edge) // 2
        square = truth[top : top + edge, left : left + edge].float()
        cells.append(functional.adaptive_avg_pool2d(square[None], side).flatten())
    return torch.stack(cells)


def quality_loss(segments: Sequence[SegMask], truths: Sequence[Tensor]) -> Tensor:
    """Squared error () of SAM's predicted IoU; the masks' true IoU gets no gradient."""
    errors = []
    for segment, truth in zip(segments, truths, strict=True):
        mask, object_ = segment.logits.detach() > 0, truth > 0.5  # noqa: PLR2004
        union = (mask | object_).sum().clamp(min=1)
        errors.append((segment.iou - (mask & object_).sum() / union).square())
    return torch.stack(errors).mean()
