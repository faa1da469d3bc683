"""Cases of kind ``evaluate``: one image and one prompt to an answer, points and masks."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from workers.read.config import SasPSettings
from workers.read.conformance.cases import (
    NEAR_ZERO_LOGIT,
    POINT_PIXELS,
    TENSOR,
    CaseResult,
    Computed,
    MaskBits,
    Same,
    Tolerance,
    Values,
    compare,
)
from workers.read.conformance.entries import compare_entry, without_image_tokens
from workers.read.conformance.sasp import sasp_arrays
from workers.read.conformance.subject import PERSONS, Subject
from workers.read.inference import (
    EncodedImage,
    Generated,
    answer,
    encode_image,
    read_opening,
    segments,
    split_prompt,
)
from workers.read.masks import SegMask
from workers.read.model import ReadModel
from workers.read.prompt import PromptSettings, prompt
from workers.read.sasp import NEGATIVE, NEUTRAL, POSITIVE

SHARED_NAMES = {
    "points": "points",
    "points_int": "points_int",
    "labels": "point_labels",
    "counts_pos_neg_neutral": "sasp_counts_pos_neg_neutral",
    "grid_h_w_padh_padw": "sasp_grid_h_w_padh_padw",
}
"""Names of SasP's arrays in the cases of SasP alone: names here."""

ROUNDED = 1e-6
"""Shares were recorded in float32."""


def names(subject: Subject, kind: str) -> list[str]:
    """The manifest's cases, and recorded files that no case speaks of."""
    cases = subject.manifest.get("cases", [])
    told = {case["file"] for case in cases}
    untold = [file for file in subject.files(kind) if file not in told]
    return [*(case["case"] for case in cases), *untold]


@torch.no_grad()
def run(subject: Subject, kind: str, name: str) -> Iterator[CaseResult]:
    """Answer the prompt as the engine does and compare every tensor on the way."""
    case, model, tokenizer = subject.entry("cases", "case", name), subject.model, subject.tokenizer
    ids = tokenizer.encode_prompt(case["prompt"])
    image = encode_image(model, subject.image(case["image"]))
    generated = answer(
        model,
        read_opening(model, ids, image),
        ids,
        seg_id=tokenizer.seg_id,
        eos_id=tokenizer.eos_id,
        max_new_tokens=case["max_new_tokens"],
    )
    masks = [mask for _, mask in segments(model, image, generated, tokenizer.seg_id)]
    steps = [step for step, token in enumerate(generated.ids) if token == tokenizer.seg_id]
    computed = _language(model, ids, image, generated) | _vision(image)
    if "evaluate_raises" not in case:
        computed["object_presence"] = Values([any((mask.logits > 0).any() for mask in masks)])
    computed["seg_hidden_pos"] = Values([_position(generated, step) for step in steps])
    if masks:
        computed["hidden_seg"] = Values(torch.stack([generated.predicting(s) for s in steps]))
        computed |= _masks(masks, image, model.settings.sasp)
    else:
        computed["mask_shape"] = Values(list(image.image_hw))
    entry = _texts(case, subject, list(generated.ids)) | _told(masks, image, computed)
    yield from compare_entry(name, kind, case, entry)
    yield from compare(name, kind, subject.recorded(case["file"]), computed)


def _texts(case: dict[str, Any], subject: Subject, ids: list[int]) -> dict[str, Computed]:
    tokenizer = subject.tokenizer
    settings = PromptSettings.from_dict({"person": PERSONS[case["template"]]})
    asked = prompt(case["question"], settings)
    return {
        "prompt": Same(asked),
        "raw_prompt": Same(without_image_tokens(asked)),
        "generated_text": Same(tokenizer.decode(ids, skip_special=False)),
        "generated_text_skip_special": Same(tokenizer.decode(ids)),
        "n_seg": Values(ids.count(tokenizer.seg_id)),
    }


def _told(
    masks: list[SegMask], image: EncodedImage, computed: Mapping[str, Computed]
) -> dict[str, Computed]:
    """What the manifest tells of an answer's tensors, in single numbers."""
    margins = computed["gen_margin"]
    assert isinstance(margins, Values)
    told: dict[str, Computed] = {
        "orig_hw": Values(list(image.image_hw)),
        "sam_hw": Values(list(image.resized_hw)),
        "min_gen_margin": Values(torch.as_tensor(margins.value).min()),
        "pred_mask_all_zero": Values(not any((mask.logits > 0).any() for mask in masks)),
    }
    if "object_presence" in computed:
        told["object_presence"] = computed["object_presence"]
    if masks:
        group = "ext_" if len(masks) > 1 else ""
        told |= {f"{group}{key}": value for key, value in _shares(masks).items()}
    return told


def _shares(masks: list[SegMask]) -> dict[str, Computed]:
    """Shares of pixels, which may be off by those near the bounds, and points by label."""
    logits = torch.stack([mask.logits for mask in masks])
    labels = torch.cat([mask.points.labels for mask in masks if mask.points is not None])
    positive = (logits > 0).double().mean()
    near = (logits.abs() < NEAR_ZERO_LOGIT).double().mean()
    edge = ((logits.abs() - NEAR_ZERO_LOGIT).abs() < TENSOR.absolute).double().mean()
    counts = {
        "pos": int((labels == POSITIVE).sum()),
        "neg": int((labels == NEGATIVE).sum()),
        "neutral": int((labels == NEUTRAL).sum()),
    }
    return {
        "mask_pos_frac": Values(positive, tolerance=Tolerance(ROUNDED + float(near))),
        "frac_abs_logit_lt_1e-3": Values(near, tolerance=Tolerance(ROUNDED + float(edge))),
        "label_counts": Same(counts),
    }


def _language(
    model: ReadModel, ids: list[int], image: EncodedImage, generated: Generated
) -> dict[str, Computed]:
    """Ids, states and logits of the language model."""
    before, _ = split_prompt(ids)
    predicting = torch.stack([generated.predicting(step) for step in range(len(generated.ids))])
    logits = model.logits(predicting)
    top = logits.topk(2).values
    return {
        "input_ids": Values([ids]),
        "output_ids": Values([[*ids, *generated.ids]]),
        "first_step_logits": Values(logits[0]),
        "gen_margin": Values(top[:, 0] - top[:, 1]),
        "image_token_start": Values(len(before)),
        "hidden_len": Values(len(generated.hidden)),
        "hidden_image_tokens": Values(generated.hidden[generated.image], strided=(0,)),
        "hidden_last": Values(generated.hidden[-1]),
        "hidden_norm_all": Values(generated.hidden.norm(dim=1)),
        "projected_image_tokens": Values(image.tokens, strided=(0,)),
    }


def _vision(image: EncodedImage) -> dict[str, Computed]:
    """What CLIP and SAM make of the image."""
    channels = image.embedding.double().flatten(1)
    return {
        "clip_features": Values(image.features, strided=(0,)),
        "sam_emb": Values(image.embedding, strided=(1, 2)),
        "sam_emb_full_c0_3": Values(image.embedding[:4]),
        "sam_emb_chan_mean": Values(channels.mean(dim=1)),
        "sam_emb_chan_std": Values(channels.std(dim=1)),
    }


def _masks(
    masks: list[SegMask], image: EncodedImage, sasp: SasPSettings | None
) -> dict[str, Computed]:
    """Similarity, points and masks; several ``[SEG]`` have names that begin with ``ext``."""
    assert sasp is not None, "the recorded checkpoints are READ's, which have SasP"
    several = len(masks) > 1
    group = "ext_" if several else ""
    computed: dict[str, Computed] = {}
    for index, mask in enumerate(masks):
        own = f"ext{index}_" if several else ""
        computed[f"{own}similarity"] = Values(mask.similarity)
        assert mask.points is not None
        arrays = sasp_arrays(mask.points, mask.similarity, image.image_hw, sasp)
        computed |= {f"{own}{SHARED_NAMES[key]}": values for key, values in arrays.items()}
    logits = torch.stack([mask.logits for mask in masks])
    view_points = torch.stack([mask.view_points for mask in masks])
    enlarged = max(1.0, max(image.resized_hw) / max(image.image_hw))
    computed |= {
        f"{group}pred_embeddings": Values(torch.stack([mask.query for mask in masks])),
        f"{group}points_1024": Values(
            view_points, tolerance=Tolerance(POINT_PIXELS.absolute * enlarged)
        ),
        f"{group}sparse_embeddings": Values(torch.stack([mask.sparse for mask in masks])),
        f"{group}low_res_logits": Values(torch.stack([mask.low_res for mask in masks])[:, None]),
        f"{group}iou_pred": Values(torch.stack([mask.iou for mask in masks])[:, None]),
        f"{group}mask_logits": Values(logits, strided=(1, 2)),
        f"{group}mask_logits_minmax": Values(torch.stack([logits.min(), logits.max()])),
        f"{group}mask_packed": MaskBits(logits),
        f"{group}mask_shape": Values(np.array(logits.shape)),
    }
    if several:
        labels = [mask.points.labels for mask in masks if mask.points is not None]
        computed["ext_point_labels"] = Values(torch.stack(labels))
    return computed


def _position(generated: Generated, step: int) -> int:
    """Index, in the sequence with image tokens, of the state that predicted ``step``."""
    return len(generated.hidden) - len(generated.ids) + step
