"""RefCOCO, RefCOCO+, RefCOCOg and their false-premise versions, in REFER's files.

A set's folder holds ``refs(SPLITBY).p`` (referred objects with their expressions) and
``instances.json`` (COCO's images and annotations). The false-premise sets mark an expression with
``is_false_premise`` and tell the true one in ``gt_sent``.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pipeline.errors import InputError
from pipeline.evaluation.checked import Entry, checked
from pipeline.evaluation.places import first_folder
from pipeline.evaluation.plain_pickle import read_plain_pickle
from pipeline.evaluation.samples import Sample, Truth
from pipeline.evaluation.truth import CocoTruth, NoObject

SPLITS_BY: dict[str, tuple[str, ...]] = {
    "refcoco": ("unc", "google"),
    "refcoco+": ("unc", "google"),
    "refcocog": ("umd", "google"),
    "fprefcoco": ("berkeley",),
    "fprefcoco+": ("berkeley",),
    "fprefcocog": ("berkeley",),
}
"""Who made each set's splits, in the order in which their files are looked for."""

VARIANTS = ("", "_exclude_unified")
TEST_GROUPS = ("testA", "testB", "testC")
PICTURES = (
    "images/mscoco/images/train2014",
    "images/mscoco/train2014",
    "images/train2014",
    "train2014",
    "images",
)


class _Sentence(BaseModel):
    sent: str
    is_false_premise: bool = False
    exist: bool = True
    gt_sent: str | None = None

    @property
    def present(self) -> bool:
        return self.exist and not self.is_false_premise


class _Ref(BaseModel):
    ref_id: int | str
    ann_id: int
    image_id: int
    sentences: list[_Sentence]


class _Image(BaseModel):
    id: int
    file_name: str
    height: int
    width: int


class _Annotation(BaseModel):
    id: int
    segmentation: Any


def read_refer(dataset: str, root: Path, split: str, split_by: str | None) -> list[Sample]:
    """Return the expressions of a split, all of one image together.

    Args:
        dataset: a key of :data:`SPLITS_BY`.
        root: the folder that holds the set's folder, or the one above (``refer_seg/``).
        split: ``val``, ``test``, ``testA``, ``testB`` or ``train``.
        split_by: whose splits, as in ``refs(SPLITBY).p``; None for the set's usual ones.

    Raises:
        InputError: a file is missing, wrong or refused, or the split is empty.
    """
    folder = first_folder(
        [root / dataset, root / "refer_seg" / dataset],
        f"the folder of {dataset} (refs and instances.json)",
    )
    refs = _refs_of(_refs_file(dataset, folder, split_by), split)
    images, annotations = _instances(folder / "instances.json", refs)
    pictures = _pictures(folder, [image.file_name for image in images.values()])
    by_image: dict[int, list[_Ref]] = {}
    for ref in refs:
        by_image.setdefault(ref.image_id, []).append(ref)
    return [
        sample
        for image_id, members in by_image.items()
        for sample in _samples(images[image_id], members, annotations, pictures, root)
    ]


def _refs_file(dataset: str, folder: Path, split_by: str | None) -> Path:
    makers = SPLITS_BY[dataset] if split_by is None else (split_by,)
    variants = VARIANTS if split_by is None else ("",)
    places = [folder / f"refs({maker}{variant}).p" for maker in makers for variant in variants]
    for place in places:
        if place.is_file():
            return place
    found = ", ".join(sorted(path.name for path in folder.glob("refs(*).p"))) or "none"
    looked = ", ".join(place.name for place in places)
    raise InputError(f"{folder}: has no {looked}; found: {found} (choose one with --split-by)")


def _refs_of(path: Path, split: str) -> list[_Ref]:
    content = read_plain_pickle(path)
    if not isinstance(content, list):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a list of refs")
    chosen, splits = [], set()
    for number, ref in enumerate(content):
        own = ref.get("split") if isinstance(ref, dict) else None
        if not isinstance(own, str):
            raise InputError(f"{path}: ref {number} has no 'split'")
        splits.add(own)
        if _in_split(own, split):
            chosen.append(checked(_Ref, ref, f"{path}: ref {number}"))
    if not chosen:
        raise InputError(f"{path}: has no refs in {split!r}; its splits: {sorted(splits)}")
    return chosen


def _pictures(folder: Path, names: Sequence[str]) -> Path:
    places = [folder.parent / place for place in PICTURES]
    for place in places:
        if any((place / name).is_file() for name in names):
            return place
    looked = "\n  ".join(str(place) for place in places)
    raise InputError(f"COCO's train2014: none of {names[0]} … was found; looked in\n  {looked}")


def _in_split(own: str, split: str) -> bool:
    """Return whether a ref belongs to a split; those of several test groups are in each."""
    if split in TEST_GROUPS:
        return own.startswith("test") and split[-1] in own.removeprefix("test")
    return own.startswith("test") if split == "test" else own == split


def _instances(
    path: Path, refs: Sequence[_Ref]
) -> tuple[dict[int, _Image], dict[int, _Annotation]]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON: {error}") from error
    images = _chosen(_Image, content, "images", {ref.image_id for ref in refs}, path)
    return images, _chosen(_Annotation, content, "annotations", {ref.ann_id for ref in refs}, path)


def _chosen(
    kind: type[Entry], content: object, part: str, ids: set[int], path: Path
) -> dict[int, Entry]:
    entries = content.get(part) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{path}: has no list {part!r}")
    found = {
        entry["id"]: checked(kind, entry, f"{path}: {part} {entry['id']}")
        for entry in entries
        if entry.get("id") in ids
    }
    missing = sorted(ids - found.keys())
    if missing:
        raise InputError(f"{path}: {part} lacks {missing[:5]}, which the refs name")
    return found


def _samples(
    image: _Image,
    refs: Sequence[_Ref],
    annotations: dict[int, _Annotation],
    pictures: Path,
    root: Path,
) -> Iterator[Sample]:
    path = pictures / image.file_name
    for ref in refs:
        segmentation = annotations[ref.ann_id].segmentation
        drawn = CocoTruth(f"ref {ref.ref_id}", image.height, image.width, segmentation)
        for sentence in ref.sentences:
            truth: Truth = drawn if sentence.present else NoObject()
            yield Sample(
                image=path,
                image_id=path.relative_to(root).as_posix(),
                query=sentence.sent.strip().lower(),
                form="phrase",
                present=sentence.present,
                truth=truth,
                correction="" if sentence.present else (sentence.gt_sent or "").strip(),
            )
