"""Whose predictions a command works on: the run's model, or masks that were imported."""

from pipeline.config import RunFile
from workers.models import PlannedModel, plan_model

IMPORTED = "import:"
_NO_SETTINGS = "{}"


def chosen_model(run: RunFile, version: str | None) -> PlannedModel:
    """Return the model whose keys the run's tasks get.

    Args:
        run: the run file.
        version: None for the present weights of the run's model; ``import:…`` for what an import
            brought, which needs no model; any other for earlier weights under the same settings.

    Raises:
        ModelUnusableError: the run's model cannot be used.
        StorageError: its store refused or broke.
    """
    if version is not None and version.startswith(IMPORTED):
        return PlannedModel("", version, _NO_SETTINGS)
    model = plan_model(run.model, run.s3, run.pool.precision)
    if version is None:
        return model
    return PlannedModel(model.source, version, model.settings_json)
