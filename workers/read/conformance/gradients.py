"""Gradients of a training case: of single weights, and their norms by group."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workers.read.conformance.cases import GRADIENT_NORM, Computed, Tolerance, Values
from workers.read.keys import released_key
from workers.read.model import ReadModel
from workers.read.train import TrainingLosses

GRADIENT = Tolerance(1e-8, of_largest=1e-3)
MASK_GROUP_NORM = Tolerance(1e-9, relative=5e-4)
"""Mask losses reach the language model with norms of 1e-5, of which points carry 6e-4 to 8e-4."""

TOTAL, MASK_ONLY = "grad/", "grad_mask_loss/"
ROW_NORM, SEG_ROW = "_rownorm", "[SEG]"
GROUPS, GROUPS_MASK_ONLY = "grad_norm_groups", "grad_norm_groups_mask_loss_only"
GROUPS_DETACHED = "grad_norm_groups_mask_loss_points_detached"
NORMS = ("grad_norms", GROUPS, GROUPS_MASK_ONLY, GROUPS_DETACHED)
"""Keys of a case that hold norms by the names of weights or groups."""


@dataclass(frozen=True, slots=True)
class Gradients:
    """Gradients by the weights' released names.

    ``total`` of all losses; ``mask_only`` of the mask losses; ``detached`` of the mask losses with
    points that are constants.
    """

    total: Mapping[str, Tensor]
    mask_only: Mapping[str, Tensor]
    detached: Mapping[str, Tensor]

    @classmethod
    def of(cls, losses: TrainingLosses, weights: Mapping[str, Tensor]) -> "Gradients":
        """Compute them all; the graph is kept."""
        mask_only = gradients_of(losses.bce + losses.dice, weights)
        detached = _without_points(losses, mask_only, weights)
        return cls(gradients_of(losses.loss, weights), mask_only, detached)


def train_only(model: ReadModel, released: Collection[str]) -> dict[str, Tensor]:
    """Freeze all weights but those of the given released names, which are returned."""
    chosen: dict[str, Tensor] = {}
    for key, weight in model.named_parameters():
        name = released_key(key)
        weight.requires_grad_(name in released)
        if name in released:
            chosen[name] = weight
    return chosen


def gradients_of(loss: Tensor, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gradient of ``loss`` with respect to each weight, zeros where it does not depend on it."""
    if not loss.requires_grad:
        return {key: torch.zeros_like(weight) for key, weight in weights.items()}
    gradients = torch.autograd.grad(
        loss, list(weights.values()), retain_graph=True, materialize_grads=True
    )
    return dict(zip(weights, gradients, strict=True))


def gradient_arrays(
    case: Mapping[str, Any], recorded: Collection[str], gradients: Gradients, seg_id: int
) -> dict[str, Computed]:
    """Our gradients by the recorded names, and our norms in the recorded order."""
    computed: dict[str, Computed] = {}
    for array in recorded:
        for prefix, chosen in ((TOTAL, gradients.total), (MASK_ONLY, gradients.mask_only)):
            if array.startswith(prefix):
                values = _part(chosen, array.removeprefix(prefix), seg_id)
                computed[array] = Values(values, tolerance=GRADIENT)
    own = [float(gradients.total[key].norm()) for key in case["grad_norms"]]
    computed["grad_norms"] = Values(own, tolerance=GRADIENT_NORM)
    groups = {
        GROUPS: gradients.total,
        GROUPS_MASK_ONLY: gradients.mask_only,
        GROUPS_DETACHED: gradients.detached,
    }
    for array, chosen in groups.items():
        if array in case:
            norms = _group_norms(chosen, list(case[array]))
            tolerance = GRADIENT_NORM if array == GROUPS else MASK_GROUP_NORM
            computed[array] = Values(norms, tolerance=tolerance)
    return computed


def recorded_norms(case: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The recorded norms, of each weight and of each group; None is a weight without any."""
    return {
        key: np.array([norm or 0.0 for norm in norms.values()])
        for key, norms in case.items()
        if key in NORMS
    }


def _without_points(
    losses: TrainingLosses, mask_only: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The mask losses' gradients as if the points were constants.

    A point's coordinates reach the losses in no other way than as SAM's prompt, so what they
    carry is subtracted: the losses' gradient with respect to the coordinates, led on to the
    weights.
    """
    points = [one.points.xy for one in losses.segments if one.points is not None]
    points = [xy for xy in points if xy.requires_grad]
    if not points:
        return dict(mask_only)
    arriving = torch.autograd.grad(losses.bce + losses.dice, points, retain_graph=True)
    carried = torch.autograd.grad(
        points,
        list(weights.values()),
        grad_outputs=arriving,
        retain_graph=True,
        materialize_grads=True,
    )
    return {key: mask_only[key] - part for key, part in zip(weights, carried, strict=True)}


def _group_norms(gradients: Mapping[str, Tensor], groups: Sequence[str]) -> list[float]:
    """Norm of each group's gradients; one belongs to the first group whose name its own holds."""
    squares = dict.fromkeys(groups, 0.0)
    for key, gradient in gradients.items():
        group = next(group for group in groups if group in key)
        squares[group] += float(gradient.norm()) ** 2
    return [square**0.5 for square in squares.values()]


def _part(gradients: Mapping[str, Tensor], name: str, seg_id: int) -> Tensor:
    """The gradient that ``name`` speaks of: whole, one row, or the norm of each row."""
    if name.endswith(ROW_NORM):
        return gradients[name.removesuffix(ROW_NORM)].norm(dim=1)
    if name.endswith(SEG_ROW):
        return gradients[name.removesuffix(SEG_ROW)][seg_id]
    return gradients[name]
