"""The current version of a store's registry, asked again and again by those who follow it."""

from dataclasses import dataclass

from pipeline.records import CurrentModel
from pipeline.registry.registry import Registry
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import open_store


@dataclass(frozen=True, slots=True)
class CurrentVersion:
    """Looks up what is current in a store; it is pickled."""

    store: str
    s3: S3Settings

    def __call__(self) -> CurrentModel | None:
        """Return the current version and where it lies, None while nothing is current.

        Raises:
            StorageError: the store failed.
        """
        registry = Registry(open_store(self.store, self.s3))
        pointer = registry.current()
        if pointer is None:
            return None
        return CurrentModel(pointer.number, pointer.version, registry.weights(pointer.version))
