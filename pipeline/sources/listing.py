"""Images that lie in a directory or below an ``s3://`` prefix."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from pipeline.errors import InputError
from pipeline.records import ImageRef
from pipeline.storage.addresses import Address, locate
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import open_store

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def listed_images(place: Address, s3: S3Settings) -> Iterator[ImageRef]:
    """Yield the images in a folder and its subfolders, in the order of their paths.

    Only files with an image's suffix count, whatever its case; hidden files and folders (whose
    names start with a dot) are left out.

    Raises:
        InputError: there is no such directory, or no image in it.
        StorageError: the store refused or broke.
    """
    _check_directory(place)
    none = True
    for info in open_store(place.uri, s3).list():
        found = locate(info.uri)
        if _is_image(found.path[len(place.path) :]):
            none = False
            yield ImageRef(info.uri, info.uri, info.size, info.etag, found.parent.uri)
    if none:
        raise InputError(
            f"{place.uri}: no images there; looked for *{', *'.join(IMAGE_SUFFIXES)} in it and "
            "its subfolders, hidden ones left out"
        )


def _check_directory(place: Address) -> None:
    if place.local is None or place.local.is_dir():
        return
    if place.local.exists():
        raise InputError(
            f"{place.local}: is a file; source.images is a directory, an s3:// prefix or a "
            "manifest (.csv, .jsonl, .parquet)"
        )
    raise InputError(f"{place.local}: there is no such directory; check source.images")


def _is_image(path: str) -> bool:
    parts = PurePosixPath(path.lstrip("/")).parts
    return path.lower().endswith(IMAGE_SUFFIXES) and not any(p.startswith(".") for p in parts)
