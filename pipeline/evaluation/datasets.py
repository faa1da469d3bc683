"""The published sets by name."""

from pathlib import Path

from pipeline.errors import InputError
from pipeline.evaluation.reasonseg import read_reasonseg
from pipeline.evaluation.refer import SPLITS_BY, read_refer
from pipeline.evaluation.samples import Sample

DATASETS = ("reasonseg", *SPLITS_BY)


def read_samples(
    dataset: str, root: Path, split: str, *, split_by: str | None = None, limit: int | None = None
) -> list[Sample]:
    """Return the queries of a split with their truth, all of one image together.

    Args:
        dataset: one of :data:`DATASETS`.
        root: where the set was unpacked; ``docs/evaluation.md`` shows the layouts.
        split: the split's published name.
        split_by: whose splits, for the sets in REFER's format.
        limit: the most images; None for all.

    Raises:
        InputError: the name is unknown, or a part of the set is missing, wrong or refused.
    """
    if dataset not in DATASETS:
        raise InputError(f"{dataset}: unknown set; known: {', '.join(DATASETS)}")
    if not root.is_dir():
        raise InputError(f"{root}: there is no such folder")
    if dataset == "reasonseg":
        samples = read_reasonseg(root, split)
    else:
        samples = read_refer(dataset, root, split, split_by)
    chosen = list(dict.fromkeys(sample.image_id for sample in samples))[:limit]
    kept = set(chosen)
    return [sample for sample in samples if sample.image_id in kept]
