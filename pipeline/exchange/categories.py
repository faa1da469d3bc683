"""Numbers of labels that stay the same from export to export.

The store remembers them: ``categories/000001.json`` is a list of labels in the order of their
numbers, ``000002.json`` the same with the labels that came later, and so on.
"""

import json
from collections.abc import Iterable

from pipeline.exchange.records import Category
from pipeline.storage.store import Store

_FOLDER = "categories"


def numbered(store: Store, labels: Iterable[str]) -> tuple[Category, ...]:
    """Return all categories of a store, those of ``labels`` among them, from 1 on without a gap.

    A label that is new gets the next number; one that no run asks for any more keeps its own.

    Raises:
        StorageError: the store failed.
    """
    wanted = list(dict.fromkeys(labels))
    while True:
        files = [info.uri for info in store.list(_FOLDER)]
        known: list[str] = json.loads(store.get(_path(len(files)))) if files else []
        fresh = [label for label in wanted if label not in known]
        together = [*known, *fresh]
        if not fresh or store.put_new(_path(len(files) + 1), json.dumps(together).encode()):
            return tuple(Category(number, name) for number, name in enumerate(together, 1))


def _path(number: int) -> str:
    return f"{_FOLDER}/{number:06}.json"
