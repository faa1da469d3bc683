"""Names of images in an export, and the split that each belongs to."""

import hashlib
import posixpath
from collections.abc import Iterable

from pipeline.errors import InputError
from pipeline.exchange.records import Split
from pipeline.records import ImageRef
from pipeline.storage.addresses import Address, locate


def file_name(uri: str, root: Address) -> str:
    """Return the name of an image: its path below ``root``, the folder of the source.

    An image elsewhere is called ``_disk/…`` or ``_s3/bucket/…`` by its whole path, so that its
    name depends on no other image.
    """
    place = locate(uri)
    below = place.below(root)
    if below is not None:
        return below
    return f"_s3/{place.bucket}/{place.path}" if place.bucket else f"_disk/{place.path}"


def stem(name: str) -> str:
    """Return a name without its suffix, which is what mask and label files are called by."""
    return posixpath.splitext(name)[0]


def check_stems(names: Iterable[str]) -> None:
    """Make sure that no two images would share a mask or label file.

    Raises:
        InputError: two of them differ in their suffixes only.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(stem(name), name)
        if other != name:
            raise InputError(
                f"{other} and {name} would share one file of masks: rename one of the images, or "
                "export coco or parquet"
            )


def split_unit(image: ImageRef, name: str) -> str:
    """Return what an image shares its split with: its group, or its folder as ``name`` has it.

    A folder counts by its path below the source, so that data may be moved.
    """
    if image.group == locate(image.uri).parent.uri:
        return posixpath.dirname(name)
    return image.group


def split_of(unit: str, val_share: float) -> Split:
    """Return the split of a group, or of an image by itself; the same in every export."""
    digest = hashlib.sha256(unit.encode()).digest()
    return "val" if int.from_bytes(digest[:8], "big") < val_share * 2**64 else "train"
