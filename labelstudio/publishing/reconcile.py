"""The ledger against the server: what is there, what is not, and what may still arrive.

The server counts, for blocks of tasks, how many of the noted numbers carry the noted keys. Only
blocks whose count is off are listed. So a deleted task, one whose number went to another task,
and one that lost its prediction are noticed in a request for every few hundred tasks.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from labelstudio.client import LabelStudioClient
from labelstudio.publishing.ledger import Entry, Ledger
from labelstudio.selection import Selection

SETTLE_SECONDS = 20.0
_LOOK_SECONDS = 1.0
_FORGOTTEN_SECONDS = 3600.0  # no request lasts so long

Keyed = tuple[str, Entry]


def settle(client: LabelStudioClient, ledger: Ledger) -> None:
    """Find out about the requests that an interrupted run sent without hearing back.

    A batch is stored whole or not at all. While the server may still be at it, absence proves
    nothing, so absent tasks are looked up again for a while, counted from now, since whoever sent
    the request may have lived until just now. The same goes for tasks that were to show something
    else, which are then sent it again.
    """
    began = time.monotonic()
    sent = {key: entry for key, entry in ledger.entries().items() if entry.doubtful}
    new = {key: entry for key, entry in sent.items() if not entry.task}
    found: dict[str, int] = {}
    while sent:
        for project, block in blocks(client, [(k, e) for k, e in new.items() if k not in found]):
            there = client.find_tasks(project, [key for key, _ in block])
            found.update((key, numbers[0]) for key, numbers in there.items())
        age = time.time() - max(entry.seconds for entry in sent.values())
        waited = time.monotonic() - began
        if len(found) == len(sent) or age > _FORGOTTEN_SECONDS or waited >= SETTLE_SECONDS:
            break
        time.sleep(_LOOK_SECONDS)
    for key in new:
        if key in found:
            ledger.adopt(key, found[key])
        else:
            ledger.forget(key)


def reconcile(client: LabelStudioClient, ledger: Ledger, advance: Callable[[int], None]) -> None:
    """Forget tasks that are gone, so that they are made again; mistrust those that show nothing.

    ``advance`` is told how many more tasks have been looked at.
    """
    known = ledger.entries().items()
    for shows in (True, False):
        of_kind = [
            (key, entry) for key, entry in known if (entry.shows and not entry.doubtful) == shows
        ]
        for project, block in blocks(client, of_kind):
            selection = Selection(
                [key for key, _ in block], [entry.task for _, entry in block], showing=shows
            )
            if client.count(project, selection) != len(block):
                _look_closely(client, ledger, project, block)
            advance(len(block))


def _look_closely(
    client: LabelStudioClient, ledger: Ledger, project: int, block: Sequence[Keyed]
) -> None:
    rows = client.select(project, Selection([key for key, _ in block]))
    there: dict[str, dict[int, int]] = defaultdict(dict)
    for row in rows:
        there[row["data"]["key"]][row["id"]] = row["total_predictions"]
    for key, entry in block:
        if key not in there:
            ledger.forget(key)
            continue
        number = entry.task if entry.task in there[key] else min(there[key])
        if number != entry.task:
            ledger.adopt(key, number)
        if entry.shows and not there[key][number]:
            ledger.mistrust(key)


def blocks(
    client: LabelStudioClient, keyed: Sequence[Keyed]
) -> Iterator[tuple[int, Sequence[Keyed]]]:
    """Yield tasks in blocks that one request may name, each of one project."""
    by_project: dict[int, list[Keyed]] = defaultdict(list)
    for key, entry in keyed:
        by_project[entry.project].append((key, entry))
    for project, tasks in by_project.items():
        most = client.most_named(project)
        for start in range(0, len(tasks), most):
            yield project, tasks[start : start + most]
