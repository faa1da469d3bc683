"""What in a store refers to model versions, and so keeps them from being pruned."""

from collections.abc import Iterator

from pipeline.registry.registry import Registry
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.jobs import trained_versions
from pipeline.storage.store import Store
from pipeline.storage.tables import PredictionTables
from pipeline.storage.training_sets import TrainingSets


def referred_versions(store: Store) -> set[str]:
    """Return the versions that predictions, corrections or snapshots of a store refer to.

    So does a training whose candidate has not been judged and that may still be gone on with.

    Raises:
        StorageError: the store failed.
    """
    predicted = PredictionTables(store).model_versions()
    corrected = CorrectionTable(store).model_versions()
    frozen = {manifest.model for manifest in TrainingSets(store).manifests()}
    return predicted | corrected | frozen | set(_unjudged(store))


def _unjudged(store: Store) -> Iterator[str]:
    """Yield the candidates of what the current version may learn from, or has learned from."""
    sets, registry = TrainingSets(store), Registry(store)
    current = registry.current()
    if current is None:
        return
    learned = registry.lineage(current.version).snapshot
    known = [one for one in sets.manifests() if one.model == current.version or one.name == learned]
    numbers = {one.number for one in known}
    for number, job, version in _trained(store):
        if number in numbers and not sets.is_settled(job):
            yield version


def _abandoned(store: Store) -> Iterator[str]:
    """Yield the candidates that a newer snapshot came before: they have weights, no lineage."""
    registry, latest = Registry(store), TrainingSets(store).latest()
    gone = registry.pruned()
    for number, _, version in _trained(store):
        older = latest is not None and number < latest.number
        if older and version not in gone and not registry.exists(version):
            yield version


def _trained(store: Store) -> Iterator[tuple[int, str, str]]:
    """Yield the number of the snapshot, the job and the version of each training that ended."""
    for job, version in trained_versions(store):
        number = job.partition("-")[0]
        if number.isdigit():
            yield int(number), job, version


def prune_models(store: Store, keep: int, *, dry_run: bool) -> list[str]:
    """Delete the weights that nothing needs, and return their versions.

    What that is, :meth:`pipeline.registry.registry.Registry.prunable` says. Beside those go the
    candidates of trainings that were left for a newer snapshot before they were judged.

    Raises:
        StorageError: the store failed.
    """
    registry, referred = Registry(store), referred_versions(store)
    abandoned = [version for version in _abandoned(store) if version not in referred]
    versions = [*abandoned, *registry.prunable(keep, referred)]
    if not dry_run:
        registry.finish_pruning()
        for version in versions:
            registry.prune(version)
    return versions
