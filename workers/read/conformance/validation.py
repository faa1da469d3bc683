"""Cases of kind ``val``: answers given, one pass to masks."""

from collections.abc import Iterator

import torch

from workers.read.conformance.batches import point_arrays, teacher_forced
from workers.read.conformance.cases import CaseResult, Computed, MaskBits, Values, compare
from workers.read.conformance.entries import compare_entry
from workers.read.conformance.subject import Subject
from workers.read.train import training_step_losses


def names(subject: Subject, kind: str) -> list[str]:
    """The manifest's cases, and recorded files that no case speaks of."""
    cases = subject.manifest.get(kind, [])
    told = {case["file"] for case in cases}
    untold = [file for file in subject.files(kind) if file not in told]
    return [*(case["case"] for case in cases), *untold]


@torch.no_grad()
def run(subject: Subject, kind: str, name: str) -> Iterator[CaseResult]:
    """Compare queries, points and masks. The truth does not matter, so the masks are empty."""
    case = subject.entry(kind, "case", name)
    yield from compare_entry(name, kind, case, {})
    recorded, prompts = subject.recorded(case["file"]), case["prompts"]
    truth = torch.zeros(tuple(recorded["pred_mask_shape"]))
    batch = teacher_forced(
        subject,
        places=[case["image"]],
        rows_of_image=[len(prompts)],
        prompts=prompts,
        labels=None,
        masks=list(truth),
    )
    segments = training_step_losses(subject.model, batch).segments
    logits = torch.stack([segment.logits for segment in segments])
    computed: dict[str, Computed] = {
        "input_ids": Values(batch.input_ids),
        "attention_masks": Values(batch.input_ids != subject.tokenizer.pad_id),
        "pred_mask_logits": Values(logits, strided=(1, 2)),
        "pred_mask_packed": MaskBits(logits),
        "pred_mask_shape": Values(list(logits.shape)),
        "pred_embeddings": Values(torch.stack([segment.query for segment in segments])),
    }
    yield from compare(name, kind, recorded, computed | point_arrays(segments))
