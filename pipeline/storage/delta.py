"""One Delta table with one writer at a time.

Every append carries the next number of one Delta app transaction, and the table is never
reloaded in between. Delta refuses the append if anybody else has committed such a transaction
since: a second writer is noticed before it can double a row, and stops.

Old versions stay readable: Delta would delete the log entries of those older than 30 days.
"""

from contextlib import suppress
from urllib.parse import unquote

import pyarrow as pa
from deltalake import (
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError

from pipeline.errors import StoppedError, StorageError
from pipeline.storage.faults import mapped_faults
from pipeline.storage.snapshot import Snapshot, TableFile
from pipeline.storage.store import Store

_APP = "readloop"
# A reader that picks single images reads whole row groups: about 10 MB with masks and vectors.
_ROWS_A_GROUP = 2048
_INDEXED = "key,image_id,label,model_version,committed_at"


class FencedTable:
    """A Delta table of a store, created if it is not there."""

    def __init__(self, store: Store, name: str, schema: pa.Schema) -> None:
        self._store = store
        self._uri = store.delta_uri(name)
        self._options = store.delta_options()
        self._name = name
        self._schema = schema
        self._delta = self._open()

    def append(self, rows: pa.Table) -> None:
        """Append rows in one commit; none make no commit.

        Raises:
            StoppedError: somebody else has appended since this table was opened.
            StorageError: the store failed.
        """
        if not rows.num_rows:
            return
        self._renew_credentials()
        number = (self._delta.transaction_version(_APP) or 0) + 1
        with mapped_faults(self._uri, self._store.endpoint):
            try:
                write_deltalake(
                    self._delta,
                    rows,
                    mode="append",
                    commit_properties=CommitProperties(
                        app_transactions=[Transaction(_APP, number)]
                    ),
                    post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
                    writer_properties=WriterProperties(
                        compression="ZSTD", max_row_group_size=_ROWS_A_GROUP
                    ),
                )
            except CommitFailedError as error:
                if "oncurrent transaction" not in str(error):
                    raise
                raise overtaken(self._store) from error

    @property
    def version(self) -> int:
        """Number of the latest commit that this writer knows."""
        return int(self._delta.version())

    def snapshot(self, version: int | None = None) -> Snapshot:
        """Return the table as this writer knows it, or as it was at a version, for reading.

        Raises:
            StorageError: there is no such version (any more).
        """
        table = self._delta
        if version is not None and version != self.version:
            with mapped_faults(self._uri, self._store.endpoint):
                table = DeltaTable(
                    self._uri, version=version, storage_options=self._store.delta_options()
                )
        actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
        files = [
            TableFile(f"{self._name}/{unquote(action['path'])}", action["size_bytes"])
            for action in reversed(actions)
        ]
        return Snapshot(self._store, files, self._schema)

    def _open(self) -> DeltaTable:
        with mapped_faults(self._uri, self._store.endpoint):
            with suppress(CommitFailedError):  # somebody else has just created it
                DeltaTable.create(
                    self._uri,
                    schema=self._schema,
                    mode="ignore",
                    configuration={
                        "delta.dataSkippingStatsColumns": _INDEXED,
                        "delta.enableExpiredLogCleanup": "false",
                    },
                    storage_options=self._options,
                )
            table = DeltaTable(self._uri, storage_options=self._options)
        found = pa.schema(table.schema().to_arrow())
        if found.names != self._schema.names:
            raise StorageError(
                f"{self._uri}: holds a table with other columns ({', '.join(found.names)}); "
                "choose another store"
            )
        if table.protocol().min_reader_version > 1:
            raise StorageError(
                f"{self._uri}: another tool has turned on Delta features that this version does "
                "not read (deletion vectors or column mapping); rewrite the table without them"
            )
        return table

    def _renew_credentials(self) -> None:
        options = self._store.delta_options()
        if options != self._options:
            with mapped_faults(self._uri, self._store.endpoint):
                version = self._delta.version()
                self._delta = DeltaTable(self._uri, version=version, storage_options=options)
            self._options = options


def overtaken(store: Store) -> StoppedError:
    """Return the error for a writer that has found another one at work on its store."""
    return StoppedError(
        f"{store.uri}: another run writes to this store; let it end (or stop it), then run "
        "again to go on"
    )
