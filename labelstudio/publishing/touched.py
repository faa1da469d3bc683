"""Which images of a run have a task that nobody has worked on yet."""

from collections.abc import Iterable

from labelstudio.client import LabelStudioClient
from labelstudio.projects import run_projects
from labelstudio.publishing.ledger import Ledger
from labelstudio.publishing.reconcile import Keyed, blocks, settle
from labelstudio.publishing.replacing import untouched
from labelstudio.settings import LabelStudioSettings
from pipeline.storage.store import Store


class UntouchedImages:
    """The tasks of a run by their images. Memory holds the ledger.

    Raises:
        LabelStudioError: the server is down, or refuses.
        StorageError: the store failed.
    """

    def __init__(
        self, client: LabelStudioClient, settings: LabelStudioSettings, store: Store, run: str
    ) -> None:
        self._client = client
        self._ledger = Ledger(store, run_projects(client, settings))
        settle(client, self._ledger)  # tasks that a killed run made without noting their numbers
        self._run = run

    def among(self, images: Iterable[str]) -> set[str]:
        """Return those images of which a task has no annotation, no skip and no draft."""
        image_of = {}
        tasks: list[Keyed] = []
        for image in images:
            for key, entry in self._ledger.of_image(self._run, image):
                if entry.task:
                    image_of[key] = image
                    tasks.append((key, entry))
        found: set[str] = set()
        for project, block in blocks(self._client, tasks):
            keys = {entry.task: key for key, entry in block}
            rows = untouched(self._client, project, keys)
            found.update(image_of[keys[number]] for number in rows)
        return found
