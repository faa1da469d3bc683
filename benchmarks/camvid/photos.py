"""Folders of photographs with a class for each pixel: what is in them, and what is true of each.

A class counts as present from :attr:`PhotoSet.least_pixels` on; with fewer it counts as absent.
"""

import itertools
import json
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import InputError

Mask = NDArray[np.bool_]

GROUP_FRAMES = 5
"""Frames of a drive in a row that are one group: they lie on one side of every split."""
_MOST_STEPS = 2


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph. ``name`` has no suffix, ``group`` is the name of its group's first frame."""

    name: str
    image: Path
    label: Path
    group: str


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true of one photograph.

    ``masks`` has the class's pixels, (H, W), all False where it is absent; ``counted`` is False on
    void pixels, which no measure sees.
    """

    masks: dict[str, Mask]
    counted: Mask

    def present(self, label: str) -> bool:
        """Return whether the class is in the picture."""
        return bool(self.masks[label].any())


@dataclass(frozen=True, slots=True)
class PhotoSet:
    """Photographs of one folder, sorted by name. ``void`` is the index that is left out."""

    folder: Path
    classes: tuple[str, ...]
    void: int
    least_pixels: int
    photos: tuple[Photo, ...]

    def truth(self, photo: Photo) -> Truth:
        """Return what is true of a photograph.

        Raises:
            InputError: its labels cannot be read, or hold an index without a class.
        """
        try:
            with Image.open(photo.label) as picture:
                index = np.array(picture)
        except OSError as error:
            raise InputError(f"{photo.label}: cannot be read as a picture ({error})") from error
        if index.ndim != 2 or index.dtype != np.uint8:  # noqa: PLR2004
            raise InputError(f"{photo.label}: must hold one byte a pixel, not {index.shape}")
        foreign = set(np.unique(index).tolist()) - {*range(len(self.classes)), self.void}
        if foreign:
            raise InputError(f"{photo.label}: index {min(foreign)} is no class of classes.json")
        masks = {label: index == number for number, label in enumerate(self.classes)}
        masks = {
            label: mask if mask.sum() >= self.least_pixels else np.zeros_like(mask)
            for label, mask in masks.items()
        }
        return Truth(masks, index != self.void)

    def sample(self, count: int, seed: int) -> "PhotoSet":
        """Return so many of the photographs, drawn by a seed; all if there are no more."""
        if count >= len(self.photos):
            return self
        drawn = random.Random(seed).sample(self.photos, count)
        return replace(self, photos=tuple(sorted(drawn, key=lambda photo: photo.name)))


def read_photos(folder: Path, least_pixels: int) -> PhotoSet:
    """Return the photographs of a folder with ``images/`` and ``labels/``.

    ``classes.json`` (``classes``: names in the order of their indices, ``void``: an index) lies in
    the folder or in the one above it.

    Raises:
        InputError: something is missing or does not fit together.
    """
    folder = folder.absolute()
    classes, void = _read_classes(folder)
    images = {path.stem: path for path in sorted((folder / "images").glob("[!.]*"))}
    labels = {path.stem: path for path in (folder / "labels").glob("[!.]*")}
    if not images:
        raise InputError(f"{folder / 'images'}: has no pictures; name a folder with images/")
    unlabeled = sorted(images.keys() - labels.keys())
    if unlabeled:
        raise InputError(f"{folder / 'labels'}: has no labels of {images[unlabeled[0]].name}")
    groups = group_frames(images)
    photos = [Photo(name, images[name], labels[name], groups[name]) for name in images]
    return PhotoSet(folder, classes, void, least_pixels, tuple(photos))


def group_frames(names: Iterable[str], length: int = GROUP_FRAMES) -> dict[str, str]:
    """Return the group of each picture of sorted names, such as ``0001TP_006690``.

    A picture continues the group of the one before if both are of one drive (what stands before
    the number), at most twice the drive's usual step apart, and the group has room.
    """
    parsed = [(name, *_drive(name)) for name in names]
    steps: dict[str, list[int]] = {}
    for (_, drive, number), (_, other, following) in itertools.pairwise(parsed):
        if drive == other:
            steps.setdefault(drive, []).append(following - number)
    groups: dict[str, str] = {}
    group, size, last_drive, last = "", 0, "", 0
    for name, drive, number in parsed:
        near = drive == last_drive and number - last <= _MOST_STEPS * np.median(steps[drive])
        if not near or size >= length:
            group, size = name, 0
        groups[name] = group
        size, last_drive, last = size + 1, drive, number
    return groups


def _drive(name: str) -> tuple[str, int]:
    """Return what stands before the last number of a name, and that number."""
    found = re.fullmatch(r"(.*?)(\d+)\D*", name, re.DOTALL)
    return (found.group(1), int(found.group(2))) if found else (name, 0)


def _read_classes(folder: Path) -> tuple[tuple[str, ...], int]:
    for place in (folder / "classes.json", folder.parent / "classes.json"):
        if place.is_file():
            break
    else:
        raise InputError(f"{folder}: no classes.json in it or in the folder above it")
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
        classes, void = tuple(map(str, content["classes"])), int(content["void"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{place}: must hold 'classes' and 'void' ({error!r})") from error
    if not classes or len(set(classes)) < len(classes):
        raise InputError(f"{place}: 'classes' is empty or names a class twice")
    return classes, void
