"""Reading masks from PNGs: what an export wrote, a folder a label, or index images.

Without ``export.json`` the folder's own subfolders are taken for labels, each with binary masks
at the images' paths; or, if labels are given by numbers, its PNGs for index images.
"""

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field, ValidationError

from pipeline import masks
from pipeline.errors import InputError, MissingError
from pipeline.exchange.folder import MANIFEST
from pipeline.exchange.found import FoundImage, FoundMask, Size, UnfitError, check_size
from pipeline.exchange.names import stem
from pipeline.exchange.png import PngFolder
from pipeline.exchange.writing import ImageList
from pipeline.storage.store import Store

_MANIFEST_BYTES = 10_000_000
_LIST_BYTES = 1_000_000_000
_SUFFIX = ".png"
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError)


class _Folder(BaseModel):
    label: str
    folder: str
    value: int = Field(ge=0, le=255)
    index: bool


class _Manifest(BaseModel):
    format: str
    folders: list[_Folder] = []


class _Line(BaseModel):
    file_name: str
    absent: list[str] = []


@dataclass(frozen=True, slots=True)
class _Masks:
    """An image's mask files by folder, and the labels that are absent as ``images.jsonl`` says."""

    files: dict[str, str]
    absent: tuple[str, ...]


class PngSource:
    """The masks of a folder of PNGs.

    Args:
        store: the folder.
        values: those of index images that stand for a category; empty for a folder a label.
        max_bytes: the bound on one file.

    Raises:
        InputError: there are no PNGs, or ``export.json`` is of another format or damaged.
        StorageError: the store failed.
    """

    def __init__(self, store: Store, values: Sequence[str], max_bytes: int) -> None:
        self._store = store
        self._max_bytes = max_bytes
        manifest = _manifest(store)
        self.with_suffix = manifest is not None
        paths = _png_paths(store)
        if manifest is not None:
            self._folders = [PngFolder(**row.model_dump()) for row in manifest.folders]
            self._images = _exported(store, self._folders, paths)
        elif values:
            self._folders = [PngFolder(value, "", int(value), index=True) for value in values]
            self._images = {stem(path): _Masks({"": path}, ()) for path in paths}
        else:
            self._folders, self._images = _by_label(paths)
        if not self._images:
            raise InputError(f"{store.uri}: holds no masks (*{_SUFFIX} in a folder for each label)")

    @property
    def categories(self) -> Sequence[str]:
        """The labels, as the folders or the manifest name them."""
        return [folder.label for folder in self._folders]

    def names(self) -> Sequence[str]:
        """Return the names of the images that have masks."""
        return list(self._images)

    def load(self, name: str, size: Size) -> FoundImage:
        """Return the masks of an image; raises UnfitError if they do not fit ``size``."""
        image = self._images[name]
        pixels = {folder: self._read(path, size) for folder, path in image.files.items()}
        found, absent = [], list(image.absent)
        for folder in self._folders:
            if folder.folder not in pixels:
                continue
            inside = _inside(pixels[folder.folder], folder)
            if inside.any():
                found.append(FoundMask(folder.label, masks.encode(inside), None, crowd=False))
            elif not folder.index:
                absent.append(folder.label)
        return FoundImage(tuple(found), tuple(dict.fromkeys(absent)))

    def _read(self, path: str, size: Size) -> NDArray[np.uint8]:
        data = self._store.get(path, self._max_bytes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                picture = Image.open(io.BytesIO(data), formats=["PNG"])
                check_size((picture.height, picture.width), size)
                if picture.mode not in ("1", "L", "P"):
                    raise UnfitError(f"{path}: has pixels of type {picture.mode}, not numbers")
                return np.array(picture.convert("L") if picture.mode == "1" else picture)
            except (*_DAMAGED, Image.DecompressionBombError) as error:
                raise UnfitError(f"{path}: is no PNG or damaged: {error}") from error


def _inside(pixels: NDArray[np.uint8], folder: PngFolder) -> NDArray[np.bool_]:
    if folder.index:
        chosen: NDArray[np.bool_] = pixels == folder.value
        return chosen
    levels = np.unique(pixels)
    if len(levels) > 2 or (len(levels) == 2 and levels[0]):  # noqa: PLR2004
        raise UnfitError(
            f"{folder.folder}: is no binary mask, it holds {len(levels)} values; give index images "
            "their labels by number: --label 7=road"
        )
    inside: NDArray[np.bool_] = pixels > 0
    return inside


def _png_paths(store: Store) -> list[str]:
    start = len(store.uri) + 1
    uris = (info.uri for info in store.list())
    return [
        unquote(uri[start:]) if store.address.local else uri[start:]
        for uri in uris
        if uri.lower().endswith(_SUFFIX)
    ]


def _manifest(store: Store) -> _Manifest | None:
    try:
        data = store.get(MANIFEST, _MANIFEST_BYTES)
    except MissingError:
        return None
    try:
        manifest = _Manifest.model_validate_json(data)
    except ValidationError as error:
        raise InputError(f"{store.uri}/{MANIFEST}: is not that of an export") from error
    if manifest.format != "png":
        raise InputError(f"{store.uri}: is an export of format {manifest.format}, not png")
    return manifest


def _exported(
    store: Store, folders: Sequence[PngFolder], paths: Sequence[str]
) -> dict[str, _Masks]:
    there = set(paths)
    places = {folder.folder for folder in folders}
    images = {}
    for number, line in enumerate(store.get(ImageList.NAME, _LIST_BYTES).splitlines(), 1):
        try:
            row = _Line.model_validate_json(line)
        except ValidationError as error:
            raise InputError(f"{store.uri}/{ImageList.NAME}: row {number} is damaged") from error
        files = {place: f"{place}/{stem(row.file_name)}{_SUFFIX}" for place in places}
        kept = {place: path for place, path in files.items() if path in there}
        images[row.file_name] = _Masks(kept, tuple(row.absent))
    return images


def _by_label(paths: Sequence[str]) -> tuple[list[PngFolder], dict[str, _Masks]]:
    labels: dict[str, None] = {}
    images: dict[str, _Masks] = {}
    for path in paths:
        label, slash, rest = path.partition("/")
        if not slash:
            continue
        labels[label] = None
        images.setdefault(stem(rest), _Masks({}, ())).files[label] = path
    return [PngFolder(label, label, 255, index=False) for label in labels], images
