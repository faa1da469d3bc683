"""Rows of the small files people write: CSV with a header, and JSON lines.

Rows are counted from 1, the header and blank lines left out. A cell is a string, or None where
JSON has null or no such key; CSV knows no None.
"""

import csv
import io
import json
from collections.abc import Collection, Iterator

from pipeline.errors import InputError

Row = dict[str, str | None]
_NUMBERS_ALLOWED = frozenset({"id", "group"})


def check_columns(
    found: Collection[str], known: Collection[str], required: str, where: str
) -> None:
    """Make sure that a file has the required column and none that is unknown.

    Raises:
        InputError: it has not; the message names the column.
    """
    unknown = [name for name in found if name not in known]
    if unknown:
        raise InputError(
            f"{where}: unknown column {unknown[0]!r}; known ones are {', '.join(known)}"
        )
    if required not in found:
        raise InputError(f"{where}: has no column {required!r}")


def decode_text(data: bytes, uri: str) -> str:
    """Return a file's text, a byte order mark left out.

    Raises:
        InputError: it is not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(uri) from error


def csv_rows(data: bytes, uri: str, known: Collection[str], required: str) -> Iterator[Row]:
    """Yield the rows of a CSV file.

    Raises:
        InputError: columns are missing or unknown, or a row has another number of cells.
    """
    reader = csv.reader(_lines(data), strict=True)
    header: list[str] | None = None
    number = 0
    try:
        for cells in reader:
            if not cells:
                continue
            if header is None:
                header = _header(cells, uri, known, required)
                continue
            number += 1
            if len(cells) != len(header):
                raise InputError(
                    f"{uri}: row {number} has {len(cells)} cells, the header {len(header)}"
                )
            yield dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise InputError(f"{uri}: row {number + 1} is not CSV: {error}") from error
    except UnicodeDecodeError as error:
        raise _not_utf8(uri) from error


def jsonl_rows(data: bytes, uri: str, known: Collection[str], required: str) -> Iterator[Row]:
    """Yield the rows of a file with one JSON object a line.

    Raises:
        InputError: a line is no JSON object, has unknown keys, or a value that is no string or
            holds half a character.
    """
    try:
        lines = (line for line in _lines(data) if line.strip())
        for number, line in enumerate(lines, start=1):
            yield _jsonl_row(line, f"{uri}: row {number}", known, required)
    except UnicodeDecodeError as error:
        raise _not_utf8(uri) from error


def _jsonl_row(line: str, where: str, known: Collection[str], required: str) -> Row:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{where} is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise InputError(f"{where} is not a JSON object with keys such as {required!r}")
    check_columns(row, known, required, where)
    return {name: _cell(name, value, where) for name, value in row.items()}


def _lines(data: bytes) -> io.TextIOWrapper:
    """Return the lines of a file without a second copy of the whole of it."""
    return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline="")


def _not_utf8(uri: str) -> InputError:
    return InputError(f"{uri}: is not UTF-8; save it as UTF-8")


def _header(cells: list[str], uri: str, known: Collection[str], required: str) -> list[str]:
    header = [cell.strip() for cell in cells]
    check_columns(header, known, required, uri)
    if len(set(header)) < len(header):
        raise InputError(f"{uri}: the header names a column twice: {', '.join(header)}")
    return header


def _cell(name: str, value: object, where: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return _whole(name, value, where)
    if name in _NUMBERS_ALLOWED and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise InputError(f"{where}: {name!r} is {json.dumps(value)[:80]}, write a string")


def _whole(name: str, text: str, where: str) -> str:
    """Return a text, made sure that it can be written: JSON may escape half of a character."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = ascii(text[error.start])
        raise InputError(
            f"{where}: {name!r} holds half a character, {half}; write the whole of it"
        ) from error
    return text
