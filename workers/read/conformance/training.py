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
    LOSS,
    CaseResult,
    Computed,
    Same,
    Values,
    compare,
    count,
)
from workers.read.conformance.entries import NOT_COMPARED, compare_entry, prompts_of
from workers.read.conformance.gradients import (
    NORMS,
    Gradients,
    gradient_arrays,
    gradients_of,
    recorded_norms,
    train_only,
)
from workers.read.conformance.subject import Subject
from workers.read.keys import released_key
from workers.read.masks import SegMask
from workers.read.train import TrainingBatch, TrainingLosses, training_step_losses

ENTRY_LEFT_OUT = (*NOT_COMPARED["train"], "rows", "losses", *NORMS)
"""Keys that are no matter of the entry alone: rows become prompts, the others are arrays here."""

INPUTS = ("labels", "offset")
UNSHIFTED = (
    "input_ids",
    "attention_masks",
    "loss_ce_loss",
    "losses.ce_loss",
    "similarity_",
    "shape_used_",
)
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
    yield from compare_entry(name, kind, case, _entry(case, batch, truths), ENTRY_LEFT_OUT)
    if "raises" in case:
        yield from _trains(subject, kind, name, batch, recorded)
        return
    weights = train_only(subject.model, case["grad_norms"])
    losses = training_step_losses(subject.model, batch)
    computed = _losses(losses) | _segments(batch, losses) | _inputs(subject, batch)
    computed |= gradient_arrays(case, recorded, Gradients.of(losses, weights), batch.seg_id)
    recorded |= {f"losses.{key}": value for key, value in case.get("losses", {}).items()}
    recorded |= recorded_norms(case)
    left_out = [*_left_out(recorded, truths)]
    shifted = {} if case["fixed_sizes"] else _shifted_sizes(batch, losses)
    if shifted:
        computed = {key: computed[key] for key in computed if key.startswith(UNSHIFTED)} | shifted
        left_out += [array for array in recorded if not array.startswith(UNSHIFTED)]
    yield from compare(name, kind, recorded, computed, left_out=left_out)


def _entry(
    case: Mapping[str, Any], batch: TrainingBatch, truths: Sequence[Tensor]
) -> dict[str, Computed]:
    """What the manifest tells of the rows; images without masks have the view's size."""
    shapes = [
        [list(resized), list(size if len(truth) else resized)]
        for resized, size, truth in zip(batch.resized_hw, batch.image_hw, truths, strict=True)
    ]
    return {
        "prompts": prompts_of(case.get("rows", []), case["prompts"]),
        "sam_mask_shape_list": Same(shapes),
    }


def _batch(
    subject: Subject,
    case: Mapping[str, Any],
    recorded: Mapping[str, np.ndarray],
    truths: Sequence[Tensor],
) -> TrainingBatch:
    labels = torch.from_numpy(recorded["labels"]).long()
    rows_of_image = np.diff(recorded["offset"]).tolist()
    masks = [mask for truth in truths for mask in truth]
    if "raises" in case:
        masks = _repeated(truths, rows_of_image, labels == subject.tokenizer.seg_id)
    return teacher_forced(
        subject,
        places=[image_place(subject, stem) for stem in case["images"]],
        rows_of_image=rows_of_image,
        prompts=case["prompts"],
        labels=labels,
        masks=masks,
    )


def _repeated(truths: Sequence[Tensor], rows_of_image: Sequence[int], seg: Tensor) -> list[Tensor]:
    """A truth for every ``[SEG]`` (R, L): an image's last one serves for those that have none."""
    masks, row = [], 0
    for truth, rows in zip(truths, rows_of_image, strict=True):
        segs = int(seg[row : row + rows].sum())
        masks += [truth[min(index, len(truth) - 1)] for index in range(segs)]
        row += rows
    return masks


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
    weights = train_only(model, [key for key in released if key.startswith(parts)])
    losses = training_step_losses(model, batch)
    gradients = gradients_of(losses.loss, weights)
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


def _losses(losses: TrainingLosses) -> dict[str, Computed]:
    values = {
        "loss": losses.loss,
        "ce_loss": losses.ce,
        "mask_bce_loss": losses.bce,
        "mask_dice_loss": losses.dice,
        "mask_loss": losses.bce + losses.dice,
    }
    return {
        f"{prefix}{name}": Values(value, tolerance=LOSS)
        for prefix in ("loss_", "losses.")
        for name, value in values.items()
    }


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
