"""Which model versions have been taken back: an append-only Delta table ``retractions``.

The latest row of a version counts. It is what keeps a bad version from coming back by itself.
"""

from datetime import UTC, datetime

import pyarrow as pa

from pipeline.errors import LabelStudioError
from pipeline.storage.delta import FencedTable
from pipeline.storage.store import Store

RETRACTIONS_SCHEMA = pa.schema(
    [
        ("model_version", pa.string()),
        ("retracted", pa.bool_()),
        ("committed_at", pa.timestamp("us", tz="UTC")),
    ]
)


class Retractions:
    """The notes of one store.

    Raises:
        StorageError: the store failed.
        StoppedError: on writing, when another process writes too.
    """

    def __init__(self, store: Store) -> None:
        self._table = FencedTable(store, "retractions", RETRACTIONS_SCHEMA)

    def versions(self) -> dict[str, datetime]:
        """Return the versions that are retracted now, and since when."""
        parts = [rows for _, rows in self._table.snapshot().scan(RETRACTIONS_SCHEMA.names)]
        if not parts:
            return {}
        rows = pa.concat_tables(parts).sort_by("committed_at").to_pylist()
        latest = {row["model_version"]: row for row in rows}
        return {version: row["committed_at"] for version, row in latest.items() if row["retracted"]}

    def note(self, model_version: str, *, retracted: bool) -> None:
        """Write down that a version is retracted, or no longer so; nothing if it is known."""
        if (model_version in self.versions()) == retracted:
            return
        row = {
            "model_version": model_version,
            "retracted": retracted,
            "committed_at": datetime.now(UTC),
        }
        self._table.append(pa.Table.from_pylist([row], schema=RETRACTIONS_SCHEMA))

    def refuse(self, model_version: str) -> None:
        """Make sure that a version may be shown.

        Raises:
            LabelStudioError: it is retracted; says what can be done.
        """
        since = self.versions().get(model_version)
        if since is not None:
            raise LabelStudioError(
                f"model version {model_version} was retracted on {since:%Y-%m-%d %H:%M} UTC: set "
                "'model' to another one and publish that, or take the retraction back with "
                f"'readloop retract RUN.yaml {model_version} --undo'"
            )
