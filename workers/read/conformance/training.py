"""Cases of kind ``train``: rows with answers to losses, points, masks and gradients."""

from collections.abc import Collection, Iterator, Mapping, Sequence

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
)
from workers.read.conformance.subject import Subject
from workers.read.keys import released_key
from workers.read.masks import SegMask
from workers.read.model import ReadModel
from workers.read.train import TrainingBatch, TrainingLosses, training_step_losses

GRADIENT = Tolerance(1e-8, of_largest=1e-3)
TOTAL, MASK_ONLY = "grad/", "grad_mask_loss/"
ROW_NORM, SEG_ROW = "_rownorm", "[SEG]"
INPUTS = ("labels", "offset")
FIXED = "_fixed"
"""Ends the name of a case whose image sizes the original mixed up, recorded with right ones."""


def names(subject: Subject, kind: str) -> list[str]:
    """Cases that the original could run with right sizes, and files that no case speaks of.

    Left out: what raised in the original, and cases that are recorded again with right sizes.
    """
    cases = subject.manifest.get(kind, [])
    known = {case["case"] for case in cases}
    told = {case["file"] for case in cases}
    comparable = [
        case["case"] for case in cases if "raises" not in case and case["case"] + FIXED not in known
    ]
    return [*comparable, *(file for file in subject.files(kind) if file not in told)]


def run(subject: Subject, kind: str, name: str) -> Iterator[CaseResult]:
    """Compare every loss, every ``[SEG]`` and every recorded gradient."""
    case = subject.entry(kind, "case", name)
    recorded = subject.recorded(case["file"])
    truths = _truths(recorded)
    batch = teacher_forced(
        subject,
        places=[image_place(subject, stem) for stem in case["images"]],
        rows_of_image=np.diff(recorded["offset"]).tolist(),
        prompts=case["prompts"],
        labels=torch.from_numpy(recorded["labels"]).long(),
        masks=[mask for truth in truths for mask in truth],
    )
    weights = _train_only(subject.model, case["grad_norms"])
    losses = training_step_losses(subject.model, batch)
    total = _gradients(losses.loss, weights)
    mask_only = _gradients(losses.bce + losses.dice, weights)
    computed = _losses(losses) | _segments(batch, losses)
    computed |= {
        "input_ids": Values(batch.input_ids),
        "attention_masks": Values(batch.input_ids != subject.tokenizer.pad_id),
        "grad_norms": Values(
            [float(total[key].norm()) for key in case["grad_norms"]], tolerance=GRADIENT_NORM
        ),
    }
    for array in recorded:
        for prefix, gradients in ((TOTAL, total), (MASK_ONLY, mask_only)):
            if array.startswith(prefix):
                values = _part(gradients, array.removeprefix(prefix), batch.seg_id)
                computed[array] = Values(values, tolerance=GRADIENT)
    recorded["grad_norms"] = np.array([norm or 0.0 for norm in case["grad_norms"].values()])
    yield from compare(name, kind, recorded, computed, left_out=_left_out(recorded, truths))


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
