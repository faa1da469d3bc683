"""Reading predictions and corrections image by image, in bounded memory.

A light pass reads keys and image ids only and notes the row group of each wanted row. Images
are then read a few hundred at a time, in the order of the wanted keys, each time only from the
row groups that hold them. Results of one image lie in one row group unless they come from
several runs, so that most row groups are read once.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.records import Correction, Prediction
from pipeline.storage.schemas import corrections_from_arrow, predictions_from_arrow
from pipeline.storage.snapshot import RowGroup, Snapshot

_IMAGES_AT_ONCE = 256
_GROUPS_KEPT = 4


@dataclass(frozen=True)
class _Rows:
    """Wanted rows, sorted by image and then by place among the wanted keys."""

    image: NDArray[np.int64]
    group: NDArray[np.int64]
    key: pa.Array


def read_by_image(predictions: Snapshot, wanted: pa.Array) -> Iterator[list[Prediction]]:
    """Yield the predictions with the wanted keys, those of one image together.

    Args:
        predictions: the table.
        wanted: keys, each once; images come in the order of their first key, and the
            predictions of an image in the order of its keys.
    """
    groups, rows = _find(predictions, wanted)

    @lru_cache(maxsize=_GROUPS_KEPT)
    def load(number: int) -> pa.Table:
        return predictions.read(groups[number])

    starts = np.flatnonzero(np.diff(rows.image, prepend=-1))
    for first in range(0, len(starts), _IMAGES_AT_ONCE):
        bounds = np.append(starts, len(rows.image))[first : first + _IMAGES_AT_ONCE + 1]
        keys = rows.key[bounds[0] : bounds[-1]]
        found: dict[str, Prediction] = {}
        for number in np.unique(rows.group[bounds[0] : bounds[-1]]):
            table = load(int(number))
            chosen = table.filter(pc.is_in(table["key"], value_set=keys))
            found |= {row.key: row for row in predictions_from_arrow(chosen)}
        ordered = [found[key] for key in keys.to_pylist()]
        for start, end in zip(bounds[:-1] - bounds[0], bounds[1:] - bounds[0], strict=True):
            yield ordered[start:end]


def latest_keys(predictions: Snapshot, images: pa.Array) -> pa.Array:
    """Return the key of the latest prediction of each label and query of images, in their order.

    Args:
        predictions: the table.
        images: ids of the wanted images, each once.
    """
    unit = ["image_id", "label", "query"]
    parts = [
        table.filter(pc.is_in(table["image_id"], value_set=images))
        for _, table in predictions.scan(["key", *unit, "committed_at"])
    ]
    if not parts:
        return pa.array([], type=pa.string())
    rows = pa.concat_tables(parts).sort_by("committed_at")
    latest = rows.group_by(unit, use_threads=False).aggregate([("key", "last")])
    place = pc.index_in(latest["image_id"], value_set=images)
    return latest.append_column("place", place).sort_by("place")["key_last"].combine_chunks()


def latest_by_image(corrections: Snapshot, images: Collection[str]) -> Iterator[list[Correction]]:
    """Yield the latest revisions of the corrections of images, those of one image together.

    Memory holds id and time of each correction, and a few hundred images.

    Args:
        corrections: the table.
        images: ids of the wanted images, each once; they come in this order, and those without a
            correction do not come.
    """
    groups, newest, places = _find_latest(corrections, images)

    @lru_cache(maxsize=_GROUPS_KEPT)
    def load(number: int) -> pa.Table:
        return corrections.read(groups[number])

    wanted = (image for image in images if image in places)
    while block := list(islice(wanted, _IMAGES_AT_ONCE)):
        found: dict[str, list[Correction]] = {image: [] for image in block}
        value_set = pa.array(block, type=pa.string())
        for number in sorted({number for image in block for number in places[image]}):
            table = load(number)
            chosen = table.filter(pc.is_in(table["image_id"], value_set=value_set))
            for row in corrections_from_arrow(chosen):
                if newest[row.id] == row.updated_at:
                    found[row.image_id].append(row)
        yield from found.values()


def _find_latest(
    corrections: Snapshot, images: Collection[str]
) -> tuple[list[RowGroup], dict[str, datetime], dict[str, set[int]]]:
    """Return the row groups, the latest time of each correction, and each image's row groups."""
    groups: list[RowGroup] = []
    newest: dict[str, datetime] = {}
    places: dict[str, set[int]] = {}
    wanted = pa.array(images, type=pa.string())
    for group, table in corrections.scan(["id", "image_id", "updated_at"]):
        chosen = table.filter(pc.is_in(table["image_id"], value_set=wanted))
        columns = (chosen[name].to_pylist() for name in ("id", "image_id", "updated_at"))
        for row, image, at in zip(*columns, strict=True):
            newest[row] = max(at, newest.get(row, at))
            places.setdefault(image, set()).add(len(groups))
        groups.append(group)
    return groups, newest, places


def _find(predictions: Snapshot, wanted: pa.Array) -> tuple[list[RowGroup], _Rows]:
    """Return the table's row groups, and where the wanted rows are in them."""
    groups: list[RowGroup] = []
    images, places, numbers = [], [], []
    for group, table in predictions.scan(["key", "image_id"]):
        place = pc.index_in(table["key"], value_set=wanted).combine_chunks()
        valid = place.is_valid()
        images.append(table["image_id"].filter(valid).combine_chunks().dictionary_encode())
        places.append(place.filter(valid).to_numpy(zero_copy_only=False).astype(np.int64))
        numbers.append(np.full(len(places[-1]), len(groups), dtype=np.int64))
        groups.append(group)
    if not groups:
        return [], _Rows(np.empty(0, np.int64), np.empty(0, np.int64), wanted.slice(0, 0))
    place = np.concatenate(places)
    image = _first_places(images, place)
    order = np.lexsort((place, image))
    keys = wanted.take(pa.array(place[order]))
    return groups, _Rows(image[order], np.concatenate(numbers)[order], keys)


def _first_places(images: list[pa.DictionaryArray], place: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each row the smallest place that any row of its image has."""
    ids = pa.chunked_array(images).unify_dictionaries()
    codes = np.concatenate([chunk.indices.to_numpy(zero_copy_only=False) for chunk in ids.chunks])
    first = np.full(len(ids.chunk(0).dictionary), np.iinfo(np.int64).max, dtype=np.int64)
    np.minimum.at(first, codes, place)
    smallest: NDArray[np.int64] = first[codes]
    return smallest
