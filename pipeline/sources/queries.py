"""Queries: from the run file or a file of them, and the label each is shown under."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.errors import InputError
from pipeline.records import Query
from pipeline.sources.rows import csv_rows, decode_text, jsonl_rows
from pipeline.sources.settings import QuerySettings
from pipeline.storage.addresses import locate
from pipeline.storage.store import ObjectReader

_COLUMNS = ("label", "text")
_MAX_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class AskedQuery:
    """A query as somebody wrote it, and where: the label is still open when it is None.

    ``id`` is the name that its row has in a manifest, if any; ``wordings`` say it in other ways.
    """

    label: str | None
    text: str
    where: str
    id: str = ""
    wordings: tuple[str, ...] = ()


def everywhere(queries: list[QuerySettings] | str, reader: ObjectReader) -> tuple[AskedQuery, ...]:
    """Return the queries that are applied to every image.

    Args:
        queries: the run file's list, or the address of a file (.txt, .csv, .jsonl, .yaml).
        reader: reads the file.

    Raises:
        InputError: the file is of another kind, holds no queries or a wrong one.
        StorageError: the file is missing or cannot be read.
    """
    if not isinstance(queries, str):
        return _asked(queries, "source.queries")
    uri = locate(queries).uri
    found = [_validated(entry, uri, row) for row, entry in enumerate(_entries(uri, reader), 1)]
    if not found:
        raise InputError(f"{uri}: holds no queries")
    return _asked(found, uri)


def name_queries(asked: Iterable[AskedQuery], image: str) -> tuple[tuple[Query, ...], int]:
    """Give every query of one image its label.

    A query without a label becomes ``query N`` by its place among those without. Identical
    queries count once, with the first id that is given.

    Returns:
        The queries in their order, and how many were dropped as identical.

    Raises:
        InputError: two different queries of the image have one label, or it has no query.
    """
    named: dict[str, AskedQuery] = {}
    unlabeled: dict[str, str] = {}
    total = 0
    for query in asked:
        total += 1
        label = query.label
        if label is None:
            label = unlabeled.setdefault(query.text, f"query {len(unlabeled) + 1}")
        earlier = named.setdefault(label, query)
        if earlier.text != query.text:
            raise InputError(
                f"{image}: {earlier.where} and {query.where} ask for {earlier.text[:80]!r} and "
                f"{query.text[:80]!r} under one label, {label!r}; give them distinct labels"
            )
        if query.id and not earlier.id:
            named[label] = query
    if not named:
        raise InputError(f"{image}: has no query; add some under source.queries")
    queries = tuple(Query(label, query.text, id=query.id) for label, query in named.items())
    return queries, total - len(queries)


def _asked(queries: Sequence[QuerySettings], where: str) -> tuple[AskedQuery, ...]:
    return tuple(
        AskedQuery(query.label, query.text, f"{where} entry {number}", wordings=query.wordings)
        for number, query in enumerate(queries, start=1)
    )


def _entries(uri: str, reader: ObjectReader) -> Iterable[Any]:
    suffix = PurePosixPath(uri).suffix.lower()
    if suffix not in (".txt", ".csv", ".jsonl", ".yaml", ".yml"):
        raise InputError(f"{uri}: a file of queries is .txt, .csv, .jsonl or .yaml")
    data = reader.get(uri, _MAX_BYTES)
    if suffix == ".csv":
        return ({**row, "label": row.get("label") or None} for row in _csv(data, uri))
    if suffix == ".jsonl":
        return jsonl_rows(data, uri, _COLUMNS, "text")
    text = decode_text(data, uri)
    if suffix == ".txt":
        return [{"text": line.strip()} for line in text.splitlines() if line.strip()]
    return _yaml_entries(text, uri)


def _csv(data: bytes, uri: str) -> Iterable[dict[str, str | None]]:
    return csv_rows(data, uri, _COLUMNS, "text")


def _yaml_entries(text: str, uri: str) -> list[Any]:
    try:
        entries = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{uri}: is not YAML: {error}") from error
    if not isinstance(entries, list):
        raise InputError(f"{uri}: must be a list of entries like {{label: sky, text: the sky}}")
    return entries


def _validated(entry: object, uri: str, row: int) -> QuerySettings:
    try:
        return QuerySettings.model_validate(entry)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in problem["loc"])
        said = f"{name}: {problem['msg']}" if name else problem["msg"]
        raise InputError(f"{uri}: row {row}: {said}") from error
