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

    So does a training of the current version whose candidate has not been judged yet.

    Raises:
        StorageError: the store failed.
    """
    predicted = PredictionTables(store).model_versions()
    corrected = CorrectionTable(store).model_versions()
    frozen = {manifest.model for manifest in TrainingSets(store).manifests()}
    return predicted | corrected | frozen | set(_unjudged(store))


def _unjudged(store: Store) -> Iterator[str]:
    sets, current = TrainingSets(store), Registry(store).current()
    learning = {one.number for one in sets.manifests() if current and one.model == current.version}
    for job, version in trained_versions(store):
        number = job.partition("-")[0]
        if number.isdigit() and int(number) in learning and not sets.is_settled(job):
            yield version


def prune_models(store: Store, keep: int, *, dry_run: bool) -> list[str]:
    """Delete the weights that nothing needs, and return their versions.

    What that is, :meth:`pipeline.registry.registry.Registry.prunable` says.

    Raises:
        StorageError: the store failed.
    """
    registry = Registry(store)
    versions = registry.prunable(keep, referred_versions(store))
    if not dry_run:
        registry.finish_pruning()
        for version in versions:
            registry.prune(version)
    return versions
