"""Teacher-forced batches as the recorded training and validation cases had them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from workers.read.conformance.cases import POINT_PIXELS, Computed, Values
from workers.read.conformance.subject import Subject
from workers.read.errors import ReadError
from workers.read.images import clip_view, sam_view
from workers.read.masks import SegMask
from workers.read.train import TrainingBatch


def teacher_forced(
    subject: Subject,
    *,
    places: Sequence[str],
    rows_of_image: Sequence[int],
    prompts: Sequence[str],
    labels: Tensor | None,
    masks: Sequence[Tensor],
) -> TrainingBatch:
    """Build a batch of images (``places`` under ``goldens/``) and prompts with their answers.

    ``rows_of_image`` counts the prompts of each image, in order. Without ``labels`` (R, L) every
    token counts as answer.
    """
    tokenizer, config = subject.tokenizer, subject.model.config
    images = [subject.image(place) for place in places]
    sam_views = [sam_view(image, config.sam.image) for image in images]
    ids = pad_sequence(
        [torch.tensor(tokenizer.encode_prompt(prompt)) for prompt in prompts],
        batch_first=True,
        padding_value=tokenizer.pad_id,
    )
    return TrainingBatch(
        clip_views=torch.tensor(np.stack([clip_view(one, config.clip_view) for one in images])),
        sam_views=torch.tensor(np.stack([view for view, _ in sam_views])),
        image_hw=[(image.shape[0], image.shape[1]) for image in images],
        resized_hw=[resized for _, resized in sam_views],
        image_index=[index for index, rows in enumerate(rows_of_image) for _ in range(rows)],
        input_ids=ids,
        labels=ids.clamp(min=0) if labels is None else labels,
        masks=masks,
        seg_id=tokenizer.seg_id,
    )


def image_place(subject: Subject, stem: str) -> str:
    """Place under ``goldens/`` of the input image with this name.

    Raises:
        ReadError: there is none.
    """
    for path in sorted((subject.folder / "goldens" / "images").glob(f"{stem}.*")):
        return str(Path("images") / path.name)
    raise ReadError(f"goldens/images holds no {stem}")


def packed_masks(packed: np.ndarray, shape: np.ndarray) -> Tensor:
    """Unpack recorded masks to bool (M, H, W)."""
    bits = np.unpackbits(packed, count=int(np.prod(shape)))
    return torch.from_numpy(bits.reshape(shape).astype(bool))


def point_arrays(segments: Sequence[SegMask]) -> dict[str, Computed]:
    """Points and labels of each ``[SEG]``, numbered."""
    computed: dict[str, Computed] = {}
    for index, segment in enumerate(segments):
        assert segment.points is not None
        computed[f"points_{index}"] = Values(segment.points.xy, tolerance=POINT_PIXELS)
        computed[f"point_labels_{index}"] = Values(segment.points.labels)
    return computed
