"""A promoted version labels anew what nobody has touched, and Label Studio shows it."""

import threading
from collections.abc import Callable, Collection, Iterator

from labelstudio.client import LabelStudioClient
from labelstudio.publishing.publish import PublishSummary
from labelstudio.publishing.touched import UntouchedImages
from labelstudio.token import checked_token
from pipeline.config import RunFile
from pipeline.errors import StoppedError
from pipeline.label import LabelRun
from pipeline.progress import Progress
from pipeline.records import ImageTasks
from pipeline.refreshing.report import Relabeled
from pipeline.refreshing.worth import Chooser
from pipeline.sources.tasks import image_tasks
from pipeline.storage.store import Store


class Relabeling:
    """Labels images of a run with one version of the registry.

    Every method raises :class:`pipeline.errors.ReadloopError` where ``LabelRun`` does.
    """

    def __init__(
        self, run: RunFile, store: Store, version: str, stop: threading.Event, progress: Progress
    ) -> None:
        self._run = run.model_copy(update={"model": f"registry@{version}"})
        self._store = store
        self._version = version
        self._stop = stop
        self._progress = progress

    def choose(self) -> list[str]:
        """Return the images that are worth it, worst first."""
        chooser = Chooser(self._store, self._run.review, self._version, self._untouched())
        self._progress.begin("images judged")
        chosen = chooser.choose(
            self._asked(self._version, "{}"), self._run.refresh.most_images, self._advance
        )
        self._progress.end()
        return chosen

    def label(self, images: Collection[str]) -> Relabeled:
        """Let the version answer what is asked of some images, in their order."""
        alone = self._run.model_copy(update={"labelstudio": None})
        summary = self._labeling(alone, images).label()
        return Relabeled(
            images=summary.images,
            queries=summary.queries,
            present=summary.present,
            absent=summary.absent,
            failed=summary.failed,
            seconds=round(summary.seconds, 3),
        )

    def publish(self, images: Collection[str]) -> PublishSummary:
        """Show the answers on tasks that nobody has touched."""
        return self._labeling(self._run, images).publish()

    def _labeling(self, run: RunFile, images: Collection[str]) -> LabelRun:
        def ask(version: str, settings_json: str) -> Iterator[ImageTasks]:
            wanted = set(images)
            asked = self._asked(version, settings_json)
            found = {work.image.id: work for work in asked if work.image.id in wanted}
            return (found[image] for image in images if image in found)

        return LabelRun(run, None, self._stop, self._progress, ask)

    def _asked(self, version: str, settings_json: str) -> Iterator[ImageTasks]:
        run = self._run
        share = run.review.reword_share
        return image_tasks(run.source, run.s3, version, settings_json, reword_share=share)

    def _untouched(self) -> Callable[[Collection[str]], set[str]]:
        settings = self._run.labelstudio
        if settings is None:
            return set
        client = LabelStudioClient(settings.url, checked_token(settings))
        client.check()
        return UntouchedImages(client, settings, self._store, self._run.name).among

    def _advance(self, images: int) -> None:
        self._progress.advance(images)
        if self._stop.is_set():
            raise StoppedError("stopped while choosing images; run again to go on")
