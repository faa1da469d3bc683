"""Which weights a running server was told to use, for a replica that takes a dead one's place."""

import json

from pipeline.errors import MissingError
from pipeline.storage.store import Store
from workers.models import PlannedModel, plan_model
from workers.serve.job import ServeJob

PATH = "serving/model.json"


class Pointer:
    """A small file in the run's store; it holds for one start of the server only.

    Args:
        store: the run's.
        begun: the model that the server was started with.
    """

    def __init__(self, store: Store, begun: PlannedModel) -> None:
        self._store = store
        self._begun = begun

    def read(self, job: ServeJob) -> PlannedModel:
        """Return the model to use.

        Raises:
            ModelUnusableError: the one that was chosen is gone.
            StorageError: the store failed.
        """
        try:
            noted = json.loads(self._store.get(PATH))
        except MissingError:
            return self._begun
        if noted["begun"] != self._begun.version:
            return self._begun
        return plan_model(noted["source"], job.s3, job.pool.precision)

    def write(self, chosen: PlannedModel) -> None:
        """Note the model to use from now on."""
        note = {"begun": self._begun.version, "source": chosen.source}
        self._store.put(PATH, json.dumps(note).encode())


def forget_choice(store: Store) -> None:
    """Begin with the run file's model again."""
    store.delete([PATH])
