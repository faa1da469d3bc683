"""What has happened on a store since a refresh looked at it."""

from collections.abc import Callable

from pydantic import TypeAdapter

from pipeline.errors import StorageError
from pipeline.learning.gate import Decision
from pipeline.refreshing.shelf import Begun
from pipeline.registry.registry import Registry
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.store import Store
from pipeline.storage.training_sets import TrainingSets


def new_corrections(store: Store, last: Begun | None, say: Callable[[str], None]) -> int:
    """Count the corrections that neither the last refresh nor a decided training set knew.

    Args:
        store: holds them.
        last: the last refresh.
        say: is told if that can not be found out, so that all count.

    Raises:
        StorageError: the store failed.
    """
    decided = TrainingSets(store).decided()
    seen = [last.corrections] if last else []
    seen += [decided.tables[0].version] if decided else []
    table = CorrectionTable(store)
    try:
        return table.news(max(seen, default=None))
    except StorageError as error:
        if error.retryable:
            raise
        say(f"all corrections count as new: {error}")
        return table.news(None)


def decided_since(store: Store, begun: Begun) -> Decision | None:
    """Return the decision of a training that ended just before its refresh was killed.

    Raises:
        StorageError: the store failed.
    """
    sets, registry = TrainingSets(store), Registry(store)
    latest = sets.latest()
    if latest is None:
        return None
    outcomes = sets.outcomes(latest) if latest.number > begun.snapshot else []
    for entry in registry.chain()[begun.pointer :]:
        lineage = registry.lineage(entry.version)
        if entry.kind == "promote" and lineage.passed and lineage.snapshot == latest.name:
            outcomes.append(lineage.decision)
    return TypeAdapter(Decision).validate_python(outcomes[-1]) if outcomes else None
