"""The registry: ``models/`` in a store.

::

    models/<version>/…              weights in the released layout
    models/lineage/<version>.json   written after the weights: a version exists once this does;
                                    written again only where another gate has judged it
    models/current/000001.json      the chain of current versions; its last entry counts
    models/pruned/<version>.json    the weights of this version are deleted, or about to be

The chain's next entry is written only if nobody else has written it (``put_new``), which every
supported store can do; so of two that promote at once, one wins and the other is told.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import ConfigError, MissingError, StoppedError
from pipeline.registry.lineage import (
    Lineage,
    Move,
    Pointer,
    read_lineage,
    read_pointer,
    to_json,
)
from pipeline.storage.addresses import locate
from pipeline.storage.store import Store

FOLDER = "models"
LINEAGE = f"{FOLDER}/lineage"
CURRENT = f"{FOLDER}/current"
PRUNED = f"{FOLDER}/pruned"


class Registry:
    """The model versions of one store.

    Every method raises :class:`pipeline.errors.StorageError` when the store fails.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def upload(self, folder: Path, version: str) -> None:
        """Write a checkpoint folder's files; the version does not exist before :meth:`record`."""
        self._store.upload(f"{FOLDER}/{version}", folder)

    def record(self, lineage: Lineage) -> bool:
        """Make a version exist, its weights being there; False if it exists already."""
        return self._store.put_new(f"{LINEAGE}/{lineage.version}.json", to_json(lineage))

    def judge_again(self, lineage: Lineage) -> None:
        """Write down another gate's decision about a version that exists; its origin stays."""
        known = self.lineage(lineage.version)
        if (known.parent, known.snapshot) == (lineage.parent, lineage.snapshot):
            judged = replace(lineage, code=known.code, created_at=known.created_at)
            self._store.put(f"{LINEAGE}/{lineage.version}.json", to_json(judged))

    def lineage(self, version: str) -> Lineage:
        """Return what is known of a version.

        Raises:
            ConfigError: there is no such version.
        """
        path = f"{LINEAGE}/{version}.json"
        try:
            data = self._store.get(path)
        except MissingError as error:
            raise ConfigError(
                f"{self._store.uri}: has no model version {version!r}; "
                "'readloop models list' shows those there are"
            ) from error
        return read_lineage(data, self._store.address.child(path).uri)

    def exists(self, version: str) -> bool:
        """Return whether a version was recorded, be it pruned or not."""
        return self._store.exists(f"{LINEAGE}/{version}.json")

    def lineages(self) -> list[Lineage]:
        """Return all versions, oldest first."""
        found = [self.lineage(version) for version in self._names(LINEAGE)]
        return sorted(found, key=lambda lineage: (lineage.created_at, lineage.version))

    def pruned(self) -> set[str]:
        """Return the versions whose weights are deleted."""
        return set(self._names(PRUNED))

    def weights(self, version: str) -> str:
        """Return where a version's checkpoint lies: a path on this machine, or ``s3://``."""
        place = self._store.address.child(f"{FOLDER}/{version}")
        return str(place.local) if place.local else place.uri

    def usable_weights(self, version: str) -> str:
        """Return where a version's checkpoint lies.

        Raises:
            ConfigError: there is no such version, or its weights were pruned.
        """
        self.lineage(version)
        if version in self.pruned():
            raise ConfigError(f"{self._store.uri}: the weights of {version} were pruned")
        return self.weights(version)

    def chain(self) -> list[Pointer]:
        """Return every entry of the chain of current versions, oldest first."""
        entries = []
        for name in self._names(CURRENT):
            path = f"{CURRENT}/{name}.json"
            uri = self._store.address.child(path).uri
            entries.append(read_pointer(self._store.get(path), uri))
        return entries

    def current(self) -> Pointer | None:
        """Return which version is current, None before the first was made so."""
        names = self._names(CURRENT)
        if not names:
            return None
        path = f"{CURRENT}/{names[-1]}.json"
        return read_pointer(self._store.get(path), self._store.address.child(path).uri)

    def move(self, version: str, kind: Move, after: Pointer | None) -> Pointer:
        """Make a version current, provided that ``after`` still is.

        Raises:
            ConfigError: there is no such version, or its weights were pruned.
            StoppedError: somebody else has made another version current since.
        """
        self.usable_weights(version)
        entry = Pointer(
            number=after.number + 1 if after else 1,
            version=version,
            kind=kind,
            previous=after.version if after else "",
            moved_at=datetime.now(UTC),
        )
        if not self._store.put_new(f"{CURRENT}/{entry.number:06d}.json", to_json(entry)):
            winner = self.current()
            assert winner, "an entry stands where this one was to be"
            raise StoppedError(
                f"{self._store.uri}: {winner.version} became current ({winner.kind}) in the "
                f"meantime, so {version} did not; run again to compare with it"
            )
        if version in self.pruned():
            self._take_back(entry)
            raise ConfigError(f"{self._store.uri}: the weights of {version} are just being pruned")
        return entry

    def _take_back(self, entry: Pointer) -> None:
        """Make the version before an entry current again, if there was one."""
        if entry.previous:
            back = Pointer(
                number=entry.number + 1,
                version=entry.previous,
                kind="rollback",
                previous=entry.version,
                moved_at=datetime.now(UTC),
            )
            self._store.put_new(f"{CURRENT}/{back.number:06d}.json", to_json(back))

    def before(self, pointer: Pointer) -> str:
        """Return the version to roll back to: current before ``pointer.version`` was promoted.

        Raises:
            ConfigError: there was none.
        """
        made = [entry for entry in self.chain() if entry.version == pointer.version]
        promotions = [entry for entry in made if entry.kind != "rollback"]
        if not promotions or not promotions[-1].previous:
            raise ConfigError(
                f"{self._store.uri}: {pointer.version} is the first version there was, so there "
                "is none to roll back to"
            )
        return promotions[-1].previous

    def prunable(self, keep: int, referred: AbstractSet[str]) -> list[str]:
        """Return the versions whose weights nothing needs any more, oldest first.

        The ``keep`` newest stay, so does what is ``referred`` to, the current version, and the
        one that a rollback would make current.
        """
        lineages = self.lineages()
        needed = {lineage.version for lineage in lineages[max(0, len(lineages) - keep) :]}
        needed |= referred
        current = self.current()
        if current:
            needed |= {current.version, current.previous}
            needed |= {entry.previous for entry in self.chain() if entry.version == current.version}
        gone = self.pruned()
        return [
            lineage.version
            for lineage in lineages
            if lineage.version not in needed and lineage.version not in gone
        ]

    def prune(self, version: str) -> None:
        """Delete a version's weights; its lineage stays. One that is current just now is spared."""
        self._store.put_new(f"{PRUNED}/{version}.json", b"{}")
        self._delete_weights(version)

    def finish_pruning(self) -> None:
        """Delete what a killed :meth:`prune` left."""
        for version in self.pruned():
            self._delete_weights(version)

    def _delete_weights(self, version: str) -> None:
        """Delete what is marked as pruned, or the mark if it has become current meanwhile."""
        current = self.current()
        if current and version in (current.version, current.previous):
            self._store.delete([f"{PRUNED}/{version}.json"])
            return
        places = [locate(info.uri) for info in self._store.list(f"{FOLDER}/{version}")]
        paths = [place.below(self._store.address) for place in places]
        assert None not in paths, "what a store lists lies below it"
        self._store.delete([path for path in paths if path])

    def _names(self, folder: str) -> list[str]:
        return sorted(self._listed(folder))

    def _listed(self, folder: str) -> Iterator[str]:
        for info in self._store.list(folder):
            name = info.uri.rpartition("/")[2]
            if name.endswith(".json"):
                yield name.removesuffix(".json")
