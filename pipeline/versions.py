"""Whose predictions a command works on: the run's model, or masks that were imported."""

from dataclasses import replace

from pipeline.config import RunFile
from pipeline.exchange.imported import IMPORTED
from pipeline.registry.current import CurrentVersion
from pipeline.registry.resolve import REGISTRY, model_source
from pipeline.storage.store import Store
from workers.models import PlannedModel, plan_model

NO_SETTINGS = "{}"
"""The settings in the keys of imported masks."""


def chosen_model(run: RunFile, store: Store, version: str | None) -> PlannedModel:
    """Return the model whose keys the run's tasks get.

    Args:
        run: the run file.
        store: the run's.
        version: None for the present weights of the run's model; ``import:…`` for what an import
            brought, which needs no model; any other for earlier weights under the same settings.

    Raises:
        ModelUnusableError: the run's model cannot be used.
        StorageError: its store refused or broke.
    """
    if version is not None and version.startswith(IMPORTED):
        return PlannedModel("", version, NO_SETTINGS)
    source = model_source(run.model, run.finetune.base, store)
    model = plan_model(source, run.s3, run.pool.precision)
    if version is None:
        return model
    return replace(model, version=version)


def current_of(run: RunFile, store: Store) -> CurrentVersion | None:
    """Return what tells a run's current version at any time; None where it names one model."""
    return CurrentVersion(store.uri, run.s3) if run.model == REGISTRY else None
