"""Reading COCO's JSON of instances: polygons, run lengths of both kinds, crowds.

Only masks are read. ``coco_url`` and the like are not looked at; nothing is fetched.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pycocotools import mask as coco
from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from pipeline import masks
from pipeline.errors import InputError
from pipeline.exchange.found import FoundImage, FoundMask, Size, UnfitError, check_size
from pipeline.exchange.polygons import filled
from pipeline.records import Rle

MAX_BYTES = 1_000_000_000
_SHOWN = 5
_LEAST_NUMBERS = 6
_OUTSIDE = 2.0  # pixels that a corner may lie beyond the image: annotation tools round

_Id = Annotated[int, Field(ge=0, lt=2**63)]
_Side = Annotated[int, Field(ge=1, le=65_535)]
_Name = Annotated[str, Field(min_length=1, max_length=4096)]


class _Rle(BaseModel):
    size: tuple[_Side, _Side]
    counts: str | list[Annotated[int, Field(ge=0, lt=2**32)]]


class _Image(BaseModel):
    id: _Id
    file_name: _Name
    width: _Side
    height: _Side
    neg_category_ids: list[_Id] = []


class _Category(BaseModel):
    id: _Id
    name: _Name


class _Annotation(BaseModel):
    image_id: _Id
    category_id: _Id
    segmentation: _Rle | list[list[FiniteFloat]]
    iscrowd: Annotated[int, Field(ge=0, le=1)] = 0
    score: Annotated[float, Field(ge=0, le=1)] | None = None


class _File(BaseModel):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation]


class CocoSource:
    """The masks of a COCO file.

    Args:
        data: the file; memory takes about ten times its bytes.
        uri: where it is from, for messages.

    Raises:
        InputError: it is not such a file; the message names the first wrong fields.
    """

    with_suffix = True

    def __init__(self, data: bytes, uri: str) -> None:
        file = _parsed(data, uri)
        _check_references(file, uri)
        self._images = {image.file_name: image for image in file.images}
        self._names = [image.file_name for image in file.images]
        self._categories = {category.id: category.name for category in file.categories}
        self._annotations: dict[int, list[tuple[int, _Annotation]]] = defaultdict(list)
        for place, annotation in enumerate(file.annotations):
            self._annotations[annotation.image_id].append((place, annotation))

    @property
    def categories(self) -> Sequence[str]:
        """Names of the categories, in the order of the file."""
        return list(self._categories.values())

    def names(self) -> Sequence[str]:
        """Return the ``file_name`` of each image."""
        return self._names

    def load(self, name: str, size: Size) -> FoundImage:
        """Return the masks of an image; raises UnfitError if they do not fit ``size``."""
        image = self._images[name]
        check_size((image.height, image.width), size)
        found = []
        for place, annotation in self._annotations[image.id]:
            try:
                mask = _mask(annotation.segmentation, size)
            except ValueError as error:
                raise UnfitError(f"annotations[{place}]: {error}") from error
            category = self._categories[annotation.category_id]
            found.append(FoundMask(category, mask, annotation.score, bool(annotation.iscrowd)))
        absent = tuple(self._categories[number] for number in image.neg_category_ids)
        return FoundImage(tuple(found), absent)


def _parsed(data: bytes, uri: str) -> _File:
    try:
        return _File.model_validate_json(data)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        lines = [f"{uri}: is not a COCO file of instances, {len(problems)} problem(s)"]
        for problem in problems[:_SHOWN]:
            where = ".".join(str(part) for part in problem["loc"])
            lines.append(f"  {where}: {problem['msg']}" if where else f"  {problem['msg']}")
        raise InputError("\n".join(lines)) from None


def _check_references(file: _File, uri: str) -> None:
    images = Counter(image.id for image in file.images)
    categories = Counter(category.id for category in file.categories)
    names = Counter(category.name for category in file.categories)
    for kind, counted in (("image id", images), ("category id", categories), ("category", names)):
        twice = next((value for value, count in counted.items() if count > 1), None)
        if twice is not None:
            raise InputError(f"{uri}: has the {kind} {twice!r} twice")
    for image in file.images:
        if unknown := set(image.neg_category_ids) - set(categories):
            raise InputError(f"{uri}: image {image.id} names an unknown category {min(unknown)}")
    for place, annotation in enumerate(file.annotations):
        if annotation.image_id not in images:
            raise InputError(f"{uri}: annotations[{place}] is of no image: {annotation.image_id}")
        if annotation.category_id not in categories:
            raise InputError(
                f"{uri}: annotations[{place}] is of no category: {annotation.category_id}"
            )


def _mask(segmentation: _Rle | list[list[float]], size: Size) -> Rle:
    """Return a segmentation as a mask of ``size``; raises ValueError if it is none."""
    if not isinstance(segmentation, _Rle):
        return _from_polygons(segmentation, size)
    if segmentation.size != size:
        raise ValueError(f"its run lengths are of size {list(segmentation.size)}")
    if isinstance(segmentation.counts, str):
        rle = Rle(*size, segmentation.counts)
        masks.decode(rle)  # which refuses what does not fill the mask
        return rle
    if sum(segmentation.counts) != size[0] * size[1]:
        raise ValueError(f"its run lengths do not fill {size[0]}x{size[1]} pixels")
    packed = coco.frPyObjects({"size": list(size), "counts": segmentation.counts}, *size)
    return Rle(*size, packed["counts"].decode("ascii"))


def _from_polygons(polygons: list[list[float]], size: Size) -> Rle:
    if not polygons:
        raise ValueError("it has no segmentation; boxes are not masks")
    corners = []
    for numbers in polygons:
        if len(numbers) < _LEAST_NUMBERS or len(numbers) % 2:
            raise ValueError(f"a polygon has {len(numbers)} numbers; it needs 6 or more, in pairs")
        polygon = np.array(numbers, dtype=np.float64).reshape(-1, 2)
        beyond = max(float(-polygon.min()), float((polygon - size[::-1]).max()))
        if beyond > _OUTSIDE:
            raise ValueError(f"a polygon lies {beyond:.6g} pixels outside of the image")
        corners.append(polygon)
    return filled(corners, *size)
