"""``model: registry`` in a run file: the store's current version, as a path or an address."""

from pipeline.errors import ConfigError
from pipeline.registry.registry import Registry
from pipeline.storage.store import Store

REGISTRY = "registry"


def model_source(model: str, base: str | None, store: Store) -> str:
    """Return the folder, ``s3://`` address or hub id that a run's model lies at right now.

    ``registry`` means the store's current version, or ``base`` while there is none;
    ``registry@VERSION`` means that version. Anything else is returned as it is.

    Raises:
        ConfigError: nothing is current and there is no base, or the version is gone or unknown.
        StorageError: the store failed.
    """
    name, at, version = model.partition("@")
    if name != REGISTRY:
        return model
    registry = Registry(store)
    if at:
        return registry.usable_weights(version)
    current = registry.current()
    if current:
        return registry.usable_weights(current.version)
    if base is None:
        raise ConfigError(
            f"model: registry: {store.uri} has no current version yet; "
            "write the model to begin with under 'finetune.base'"
        )
    return base
