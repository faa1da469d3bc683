"""Cases of kind ``preprocess``: a file to pixels, pixels to both views."""

from collections.abc import Iterator

import numpy as np

from workers.read.conformance.cases import CaseResult, Values, compare
from workers.read.conformance.subject import Subject
from workers.read.images import SAM_MEAN, SAM_STD, clip_view, sam_view


def names(subject: Subject, kind: str) -> list[str]:
    """Every recorded file of the kind is a case."""
    return subject.files(kind)


def run(subject: Subject, kind: str, name: str) -> Iterator[CaseResult]:
    """Compare the views, and the resized 8-bit pixels that they are made of."""
    config = subject.model.config
    image = subject.image(subject.manifest["files"][name]["image"])
    clip = clip_view(image, config.clip_view)
    sam, (height, width) = sam_view(image, config.sam.image)
    mean, std = np.array(config.clip_view.mean), np.array(config.clip_view.std)
    clip_u8 = np.rint(255 * (clip.transpose(1, 2, 0) * std + mean))
    sam_u8 = np.rint(sam[:, :height, :width].transpose(1, 2, 0) * SAM_STD + SAM_MEAN)
    clip_sums, sam_sums = clip.astype(np.float64), sam.astype(np.float64)
    computed = {
        "clip_u8": Values(clip_u8),
        "clip_pixel_values": Values(clip, strided=(1, 2)),
        "clip_sum": Values(clip_sums.sum(axis=(1, 2))),
        "sam_u8": Values(sam_u8, strided=(0, 1)),
        "sam_u8_sum": Values(sam_u8.sum(axis=(0, 1), dtype=np.int64)),
        "sam_input": Values(sam, strided=(1, 2)),
        "sam_sum": Values(sam_sums.sum(axis=(1, 2))),
        "sam_sqsum": Values(np.square(sam_sums).sum(axis=(1, 2))),
        "sam_resized_hw": Values([height, width]),
        "orig_hw": Values(list(image.shape[:2])),
    }
    return compare(name, kind, subject.recorded(name), computed)
