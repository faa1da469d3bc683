"""Frozen training sets: small manifests that say which corrections, as they were, count for what.

::

    snapshots/000001/rows-<hash>.parquet         a reference to a correction a row, and its part
    snapshots/000001/images-<hash>.parquet       which side of the split each image is on, for ever
    snapshots/000001/manifest.json               written last, and by one writer only
    snapshots/000001/outcome-<job>-<gate>.json   what each gate said of a job that learned from it

Masks stay in the corrections table, whose old versions do not change; the manifest holds a digest
of the whole set, and reading it back compares that.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from pipeline.errors import ConfigError, MissingError, SnapshotError, StorageError
from pipeline.records import Correction, Example, Origin, Split
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.parquet import read_parquet, to_parquet
from pipeline.storage.store import Store, open_store

FOLDER = "snapshots"
GroupedBy = Literal["folder", "likeness"]
"""How images are grouped whose manifest names no group."""
_MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class TableVersion:
    """One version of a store's corrections table; ``store`` is empty for the manifest's own."""

    store: str
    version: int


@dataclass(frozen=True, slots=True)
class SceneSet:
    """Generated scenes, each from (seed, index): ``count`` to learn from, ``judged`` to judge by.

    ``side`` is the longest side, in pixels, of those that are learned from. Those to judge by have
    their full size.
    """

    difficulty: Literal["easy", "hard"]
    seed: int
    count: int
    judge_seed: int
    judged: int
    side: int


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A question that asks for no mask, and its answer."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Row:
    """A correction by table (index into the manifest's), id and revision, and what it counts."""

    table: int
    id: str
    updated_at: datetime
    etag: str
    group: str
    split: Split
    origin: Origin
    answer: str
    weight: float


@dataclass(frozen=True, slots=True)
class Assigned:
    """Which group, and so which side, an image belongs to; ``likeness`` is its hash, 0 if none."""

    image_id: str
    group: str
    split: Split
    likeness: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a training set consists of. ``model`` was current when it was frozen.

    ``digest`` is over all examples in their order. ``left_out`` counts corrections by the reason
    why they are not in it. ``policy`` says which of several people's corrections is in it.
    """

    number: int
    created_at: datetime
    model: str
    tables: tuple[TableVersion, ...]
    grouping: GroupedBy
    rows: str
    images: str
    digest: str
    counts: dict[str, int]
    left_out: dict[str, int]
    settings: dict[str, Any]
    policy: str = ""
    scenes: SceneSet | None = None
    dialogue: tuple[Dialogue, ...] = field(default_factory=tuple)

    @property
    def name(self) -> str:
        """The snapshot's name: its number and the beginning of its digest."""
        return f"{self.number:06d}-{self.digest[:8]}"


class TrainingSets:
    """The training sets of one store.

    Every method raises :class:`pipeline.errors.StorageError` when the store fails.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def latest(self) -> Manifest | None:
        """Return the newest manifest, None before the first."""
        numbers = self._numbers()
        return self._manifest(numbers[-1]) if numbers else None

    def manifests(self) -> Iterator[Manifest]:
        """Yield all manifests, oldest first."""
        yield from map(self._manifest, self._numbers())

    def named(self, name: str) -> Manifest:
        """Return the manifest of that name.

        Raises:
            ConfigError: there is none.
        """
        number = name.partition("-")[0]
        if number.isdigit() and int(number) in self._numbers():
            manifest = self._manifest(int(number))
            if manifest.name == name:
                return manifest
        raise ConfigError(f"{self._store.uri}: has no snapshot {name!r}")

    def write_parts(self, number: int, rows: pa.Table, images: pa.Table) -> tuple[str, str]:
        """Write the tables of a manifest to come; return their paths."""
        return self._write(number, "rows", rows), self._write(number, "images", images)

    def write_manifest(self, manifest: Manifest) -> bool:
        """Make a training set exist, its parts being there; False if its number is taken."""
        data = TypeAdapter(Manifest).dump_json(manifest, indent=2)
        return self._store.put_new(_path(manifest.number, _MANIFEST), data)

    def rows(self, manifest: Manifest) -> list[Row]:
        """Return the references of a manifest."""
        return [Row(**row) for row in read_parquet(self._store, manifest.rows).to_pylist()]

    def assigned(self, manifest: Manifest) -> dict[str, Assigned]:
        """Return every image that was ever assigned to a side, by its id."""
        found = (Assigned(**row) for row in read_parquet(self._store, manifest.images).to_pylist())
        return {row.image_id: row for row in found}

    def examples(self, manifest: Manifest) -> list[Example]:
        """Return the training set, the same bit for bit on every call.

        Raises:
            SnapshotError: a version of a corrections table is gone, or the set is another one.
            StorageError: a store failed.
        """
        rows = self.rows(manifest)
        try:
            found = [self._corrections(table) for table in manifest.tables]
            examples = [example_of(found[row.table][row.id, row.updated_at], row) for row in rows]
        except KeyError as error:
            raise self._changed(manifest, f"correction {error} is missing") from error
        except MissingError as error:
            raise self._changed(manifest, str(error)) from error
        if digest_of(examples) != manifest.digest:
            raise self._changed(manifest, "its digest differs")
        return examples

    def outcome(self, manifest: Manifest, job: str, gate: str) -> dict[str, Any] | None:
        """Return what a gate said of a job on a training set, None while it has not."""
        try:
            data = self._store.get(_path(manifest.number, _outcome(job, gate)))
        except MissingError:
            return None
        outcome: dict[str, Any] = json.loads(data)
        return outcome

    def is_settled(self, job: str) -> bool:
        """Return whether any gate has decided about a job, which is called after its snapshot."""
        found = self._store.list(f"{FOLDER}/{job.partition('-')[0]}")
        return any(f"/outcome-{job}-" in info.uri for info in found)

    def decided(self) -> Manifest | None:
        """Return the newest manifest of which a job has come to a decision, None without one."""
        paths = (info.uri.split("/") for info in self._store.list(FOLDER))
        numbers = [int(parts[-2]) for parts in paths if parts[-1].startswith("outcome-")]
        return self._manifest(max(numbers)) if numbers else None

    def outcomes(self, manifest: Manifest) -> list[dict[str, Any]]:
        """Return what became of all jobs on a training set that are decided."""
        found = self._store.list(f"{FOLDER}/{manifest.number:06d}")
        names = [info.uri.rpartition("/")[2] for info in found]
        jobs = [name for name in names if name.startswith("outcome-")]
        return [json.loads(self._store.get(_path(manifest.number, name))) for name in jobs]

    def settle(self, manifest: Manifest, job: str, gate: str, outcome: Mapping[str, Any]) -> None:
        """Write down what a gate said of a job on a training set."""
        data = json.dumps(outcome, indent=2).encode()
        self._store.put_new(_path(manifest.number, _outcome(job, gate)), data)

    def _corrections(self, table: TableVersion) -> dict[tuple[str, datetime], Correction]:
        store = open_store(table.store, self._store.s3) if table.store else self._store
        latest = CorrectionTable(store).latest(table.version)
        return {(row.id, row.updated_at): row for row in latest}

    def _numbers(self) -> list[int]:
        paths = (info.uri.split("/") for info in self._store.list(FOLDER))
        return sorted(int(parts[-2]) for parts in paths if parts[-1] == _MANIFEST)

    def _manifest(self, number: int) -> Manifest:
        path = _path(number, _MANIFEST)
        try:
            return TypeAdapter(Manifest).validate_json(self._store.get(path))
        except ValidationError as error:
            uri = self._store.address.child(path).uri
            raise StorageError(f"{uri}: is not a manifest of this version: {error}") from error

    def _write(self, number: int, kind: str, table: pa.Table) -> str:
        data = to_parquet(table)
        path = _path(number, f"{kind}-{hashlib.sha256(data).hexdigest()[:16]}.parquet")
        self._store.put(path, data)
        return path

    def _changed(self, manifest: Manifest, what: str) -> SnapshotError:
        return SnapshotError(
            f"{self._store.uri}: snapshot {manifest.name} cannot be rebuilt ({what}): the "
            "corrections table was rewritten or vacuumed; freeze a new one with --fresh"
        )


ROWS_SCHEMA = pa.schema(
    [
        ("table", pa.int32()),
        ("id", pa.string()),
        ("updated_at", pa.timestamp("us", tz="UTC")),
        ("etag", pa.string()),
        ("group", pa.string()),
        ("split", pa.string()),
        ("origin", pa.string()),
        ("answer", pa.string()),
        ("weight", pa.float64()),
    ]
)
IMAGES_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("group", pa.string()),
        ("split", pa.string()),
        ("likeness", pa.uint64()),
    ]
)


def rows_to_arrow(rows: Sequence[Row]) -> pa.Table:
    """Return references as a table."""
    return pa.Table.from_pylist([asdict(row) for row in rows], schema=ROWS_SCHEMA)


def images_to_arrow(images: Sequence[Assigned]) -> pa.Table:
    """Return images with their sides as a table."""
    return pa.Table.from_pylist([asdict(image) for image in images], schema=IMAGES_SCHEMA)


def example_of(correction: Correction, row: Row) -> Example:
    """Return what a correction teaches, as a row of a manifest has it."""
    return Example(
        id=correction.id,
        image_id=correction.image_id,
        image=correction.image,
        etag=row.etag,
        group=row.group,
        split=row.split,
        origin=row.origin,
        label=correction.label,
        query=correction.query,
        present=correction.present,
        mask=correction.mask,
        answer=row.answer,
        weight=row.weight,
    )


def digest_of(examples: Sequence[Example]) -> str:
    """Return a SHA-256 over examples in their order, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(json.dumps(asdict(example), sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _outcome(job: str, gate: str) -> str:
    return f"outcome-{job}-{gate}.json"


def _path(number: int, name: str) -> str:
    return f"{FOLDER}/{number:06d}/{name}"
