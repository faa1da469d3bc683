"""Cases of kind ``train``: rows with answers to losses, points, masks and gradients."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workers.read.conformance.batches import (
    image_place,
    packed_masks,
    point_arrays,
    teacher_forced,
)
from workers.read.conformance.cases import (
    GRADIENT_NORM,
    LOSS,
    CaseResult,
    Computed,
    Tolerance,
    Values,
    compare,
    count,
)
from workers.read.conformance.subject import Subject
from workers.read.keys import released_key
from workers.read.masks import SegMask
from workers.read.model import ReadModel
from workers.read.train import TrainingBatch, TrainingLosses, training_step_losses

GRADIENT = Tolerance(1e-8, of_largest=1e-3)
TOTAL, MASK_ONLY = "grad/", "grad_mask_loss/"
ROW_NORM, SEG_ROW = "_rownorm", "[SEG]"
GROUPS, GROUPS_MASK_ONLY = "grad_norm_groups", "grad_norm_groups_mask_loss_only"
INPUTS = ("labels", "offset")
UNSHIFTED = ("input_ids", "attention_masks", "loss_ce_loss", "similarity_", "shape_used_")
"""Arrays that do not depend on the image size that a row was given."""


def names(subject: Subject, kind: str) -> list[str]:
    """The manifest's cases, and recorded files that no case speaks of."""
    cases = subject.manifest.get(kind, [])
    told = {case["file"] for case in cases}
    untold = [file for file in subject.files(kind) if file not in told]
    return [*(case["case"] for case in cases), *untold]


def run(subject: Subject, kind: str, name: str) -> Iterator[CaseResult]:
    """Compare every loss, every ``[SEG]`` and every recorded gradient.

    Where the original gave rows the size of another image, what depends on it is left out. Where
    it raised, ours has to train.
    """
    case = subject.entry(kind, "case", name)
    recorded = subject.recorded(case["file"])
    truths = _truths(recorded)
    batch = _batch(subject, case, recorded, truths)
    if "raises" in case:
        yield from _trains(subject, kind, name, batch, recorded)
        return
    weights = _train_only(subject.model, case["grad_norms"])
    losses = training_step_losses(subject.model, batch)
    total = _gradients(losses.loss, weights)
    mask_only = _gradients(losses.bce + losses.dice, weights)
    computed = _losses(losses) | _segments(batch, losses)
    computed |= _inputs(subject, batch) | {
        "grad_norms": Values(
            [float(total[key].norm()) for key in case["grad_norms"]], tolerance=GRADIENT_NORM
        ),
    }
    for array, gradients in ((GROUPS, total), (GROUPS_MASK_ONLY, mask_only)):
        if array in case:
            norms = _group_norms(gradients, list(case[array]))
            computed[array] = Values(norms, tolerance=GRADIENT_NORM)
            recorded[array] = np.array(list(case[array].values()))
    for array in recorded:
        for prefix, gradients in ((TOTAL, total), (MASK_ONLY, mask_only)):
            if array.startswith(prefix):
                values = _part(gradients, array.removeprefix(prefix), batch.seg_id)
                computed[array] = Values(values, tolerance=GRADIENT)
    recorded["grad_norms"] = np.array([norm or 0.0 for norm in case["grad_norms"].values()])
    left_out = [*_left_out(recorded, truths)]
    shifted = {} if case["fixed_sizes"] else _shifted_sizes(batch, losses)
    if shifted:
        computed = {key: computed[key] for key in computed if key.startswith(UNSHIFTED)} | shifted
        left_out += [array for array in recorded if not array.startswith(UNSHIFTED)]
    yield from compare(name, kind, recorded, computed, left_out=left_out)


def _batch(
    subject: Subject,
    case: Mapping[str, Any],
    recorded: Mapping[str, np.ndarray],
    truths: Sequence[Tensor],
) -> TrainingBatch:
    masks = [mask for truth in truths for mask in truth]
    labels = torch.from_numpy(recorded["labels"]).long()
    if "raises" in case:  # one truth for all the [SEG] of a row, which the original cannot take
        segs = int((labels == subject.tokenizer.seg_id).sum())
        masks = [masks[0]] * segs
    return teacher_forced(
        subject,
        places=[image_place(subject, stem) for stem in case["images"]],
        rows_of_image=np.diff(recorded["offset"]).tolist(),
        prompts=case["prompts"],
        labels=labels,
        masks=masks,
    )


def _inputs(subject: Subject, batch: TrainingBatch) -> dict[str, Computed]:
    return {
        "input_ids": Values(batch.input_ids),
        "attention_masks": Values(batch.input_ids != subject.tokenizer.pad_id),
    }


def _trains(
    subject: Subject,
    kind: str,
    name: str,
    batch: TrainingBatch,
    recorded: Mapping[str, np.ndarray],
) -> Iterator[CaseResult]:
    """Nothing but inputs is recorded: count ``[SEG]`` without mask and weights without gradient."""
    left_out = _left_out(recorded, [])
    yield from compare(name, kind, recorded, _inputs(subject, batch), left_out=left_out)
    model = subject.model
    parts = ("model.text_hidden_fcs.", "lm_head.", "model.embed_tokens.", "model.layers.")
    released = [released_key(key) for key, _ in model.named_parameters()]
    weights = _train_only(model, [key for key in released if key.startswith(parts)])
    losses = training_step_losses(model, batch)
    gradients = _gradients(losses.loss, weights)
    still = sum(not (norm > 0) for norm in (value.norm() for value in gradients.values()))
    yield count(name, kind, "[SEG] without mask", len(batch.masks) - len(losses.segments))
    yield count(name, kind, "weights without gradient", still)


def _shifted_sizes(batch: TrainingBatch, losses: TrainingLosses) -> dict[str, Computed]:
    """Image sizes as the original took them, if those are not the right ones.

    It numbered the rows with ``[SEG]`` but counted on in the sizes of all rows, so that a row
    without one gives its size to the next.
    """
    used = [batch.image_hw[batch.image_index[row]] for row in range(len(losses.segment_rows))]
    right = [batch.image_hw[batch.image_index[row]] for row in losses.segment_rows]
    if used == right:
        return {}
    return {f"shape_used_{index}": Values(list(size)) for index, size in enumerate(used)}


def _group_norms(gradients: Mapping[str, Tensor], groups: Sequence[str]) -> list[float]:
    """Norm of each group's gradients; one belongs to the first group whose name its own holds."""
    squares = dict.fromkeys(groups, 0.0)
    for key, gradient in gradients.items():
        group = next(group for group in groups if group in key)
        squares[group] += float(gradient.norm()) ** 2
    return [square**0.5 for square in squares.values()]


def _truths(recorded: Mapping[str, np.ndarray]) -> list[Tensor]:
    """Ground-truth masks (M, H, W) of each image."""
    images = range(len(recorded["offset"]) - 1)
    return [
        packed_masks(recorded[f"gt_mask_packed_{image}"], recorded[f"gt_mask_shape_{image}"])
        for image in images
    ]


def _left_out(recorded: Collection[str], truths: Sequence[Tensor]) -> Collection[str]:
    """Inputs, and predictions for images without masks: the original gives those odd shapes."""
    names = [*INPUTS, *(array for array in recorded if array.startswith("gt_mask_"))]
    for image, truth in enumerate(truths):
        if not len(truth):
            names += [a for a in recorded if a.startswith("pred_") and a.endswith(f"_{image}")]
    return names


def _train_only(model: ReadModel, released: Collection[str]) -> dict[str, Tensor]:
    """Freeze all weights but those of the given released names, which are returned."""
    chosen: dict[str, Tensor] = {}
    for key, weight in model.named_parameters():
        name = released_key(key)
        weight.requires_grad_(name in released)
        if name in released:
            chosen[name] = weight
    return chosen


def _gradients(loss: Tensor, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gradient of ``loss`` with respect to each weight, zeros where it does not depend on it."""
    if not loss.requires_grad:
        return {key: torch.zeros_like(weight) for key, weight in weights.items()}
    gradients = torch.autograd.grad(
        loss, list(weights.values()), retain_graph=True, materialize_grads=True
    )
    return dict(zip(weights, gradients, strict=True))


def _part(gradients: Mapping[str, Tensor], name: str, seg_id: int) -> Tensor:
    """The gradient that ``name`` speaks of: whole, one row, or the norm of each row."""
    if name.endswith(ROW_NORM):
        return gradients[name.removesuffix(ROW_NORM)].norm(dim=1)
    if name.endswith(SEG_ROW):
        return gradients[name.removesuffix(SEG_ROW)][seg_id]
    return gradients[name]


def _losses(losses: TrainingLosses) -> dict[str, Computed]:
    values = {
        "loss": losses.loss,
        "ce_loss": losses.ce,
        "mask_bce_loss": losses.bce,
        "mask_dice_loss": losses.dice,
        "mask_loss": losses.bce + losses.dice,
    }
    return {f"loss_{name}": Values(value, tolerance=LOSS) for name, value in values.items()}


def _segments(batch: TrainingBatch, losses: TrainingLosses) -> dict[str, Computed]:
    """What every ``[SEG]`` became, numbered by row, and masks grouped by image."""
    computed = point_arrays(losses.segments)
    of_image: dict[int, list[SegMask]] = {index: [] for index in range(len(batch.image_hw))}
    for index, (segment, row) in enumerate(zip(losses.segments, losses.segment_rows, strict=True)):
        image = batch.image_index[row]
        of_image[image].append(segment)
        assert segment.points is not None
        computed[f"points_int_{index}"] = Values(segment.points.integer)
        computed[f"similarity_{index}"] = Values(segment.similarity)
        computed[f"shape_used_{index}"] = Values(list(batch.image_hw[image]))
    for image, segments in of_image.items():
        computed |= _image_masks(image, segments)
    return computed


def _image_masks(image: int, segments: Sequence[SegMask]) -> dict[str, Computed]:
    if not segments:
        return {}
    logits = torch.stack([segment.logits for segment in segments])
    return {
        f"pred_embeddings_{image}": Values(torch.stack([segment.query for segment in segments])),
        f"pred_mask_logits_{image}": Values(logits, strided=(1, 2)),
        f"pred_mask_shape_{image}": Values(list(logits.shape)),
    }
