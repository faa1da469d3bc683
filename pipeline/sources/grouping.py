"""From a manifest's rows to its images, each with the queries that it brings.

Rows of one image may stand anywhere in the manifest: its rows are sorted by image once, as
Arrow columns, and turned into Python objects a few thousand at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.sources.queries import AskedQuery
from pipeline.storage.addresses import Address, locate

_ROWS_AT_ONCE = 16_384
_MAX_LABEL = 100


@dataclass(frozen=True, slots=True)
class ManifestImage:
    """One image of a manifest; ``id`` and ``group`` are empty where no row gives them.

    ``id`` is that of a row without a query of its own: it names what the run file asks there.
    """

    uri: str
    id: str
    group: str
    asked: tuple[AskedQuery, ...]


@dataclass(frozen=True, slots=True)
class _ManifestRow:
    number: int
    query: str | None
    label: str | None
    id: str | None
    group: str | None


def images_of(table: pa.Table, manifest: Address) -> Iterator[ManifestImage]:
    """Yield the images of a manifest in the order of their first rows.

    Args:
        table: the rows, as :func:`pipeline.sources.manifest.read_manifest` returns them.
        manifest: where it lies; relative images start from its folder.

    Raises:
        InputError: an image is missing or cannot be addressed, rows of one image disagree on
            its group, or a label is too long.
    """
    images, codes = _resolve(table["image"], manifest)
    order = np.argsort(codes, kind="stable")
    rows = _sorted_rows(table, codes, order)
    for code, members in groupby(rows, key=itemgetter(0)):
        yield _image(images[code], [row for _, row in members], manifest.uri)


def _resolve(column: pa.ChunkedArray, manifest: Address) -> tuple[list[str], NDArray[np.int64]]:
    """Return the distinct images' URIs in order of appearance, and each row's place in them."""
    missing = pc.index(pc.equal(pc.fill_null(column, ""), ""), value=True).as_py()
    if missing >= 0:
        raise InputError(f"{manifest.uri}: row {missing + 1} names no image")
    encoded = column.combine_chunks().dictionary_encode()
    raw_codes = encoded.indices.to_numpy().astype(np.int64)
    folder = manifest.parent
    places: dict[str, int] = {}
    meaning = np.empty(len(encoded.dictionary), dtype=np.int64)
    for code, text in enumerate(encoded.dictionary.to_pylist()):
        try:
            uri = locate(text, folder).uri
        except InputError as error:
            row = int(np.argmax(raw_codes == code)) + 1
            raise InputError(f"{manifest.uri}: row {row}: {error}") from error
        meaning[code] = places.setdefault(uri, len(places))
    return list(places), meaning[raw_codes]


def _sorted_rows(
    table: pa.Table, codes: NDArray[np.int64], order: NDArray[np.int64]
) -> Iterator[tuple[int, _ManifestRow]]:
    for start in range(0, len(order), _ROWS_AT_ONCE):
        chosen = order[start : start + _ROWS_AT_ONCE]
        part = table.take(pa.array(chosen))
        columns = (part[name].to_pylist() for name in ("query", "label", "id", "group"))
        for code, number, *cells in zip(codes[chosen], chosen + 1, *columns, strict=True):
            yield int(code), _ManifestRow(int(number), *cells)


def _image(uri: str, rows: list[_ManifestRow], manifest: str) -> ManifestImage:
    asked = (_asked(row, f"{manifest} row {row.number}") for row in rows)
    return ManifestImage(
        uri=uri,
        id=next((row.id for row in rows if row.id and row.query is None), ""),
        group=_agreed_group([(row.number, row.group) for row in rows], manifest),
        asked=tuple(query for query in asked if query is not None),
    )


def _asked(row: _ManifestRow, where: str) -> AskedQuery | None:
    label = (row.label or "").strip()
    if len(label) > _MAX_LABEL:
        raise InputError(
            f"{where}: the label has {len(label)} characters, {_MAX_LABEL} are allowed"
        )
    if row.query is not None:
        return AskedQuery(label or None, row.query, where, row.id or "")
    if label:
        raise InputError(f"{where}: has a label, {label!r}, but no query")
    return None


def _agreed_group(cells: list[tuple[int, str | None]], manifest: str) -> str:
    given = [(number, cell) for number, cell in cells if cell]
    for number, cell in given:
        if cell != given[0][1]:
            raise InputError(
                f"{manifest}: rows {given[0][0]} and {number} give one image two groups, "
                f"{given[0][1]!r} and {cell!r}"
            )
    return given[0][1] if given else ""
