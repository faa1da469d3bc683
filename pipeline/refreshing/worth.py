"""What is worth labeling anew: images that nobody has touched, those with the worst masks first."""

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice

from pipeline.records import ImageTasks, Prediction
from pipeline.review.calibration import CalibrationShelf
from pipeline.review.judge import Judge
from pipeline.review.priority import features_of
from pipeline.review.settings import ReviewSettings
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.store import Store
from pipeline.storage.tables import PredictionTables

_IMAGES_AT_ONCE = 256
_VERSIONS_AT_ONCE = 16

Untouched = Callable[[Collection[str]], set[str]]
"""Returns those of some images that have a task which nobody has worked on."""


class Chooser:
    """Chooses images by the latest predictions of what is asked of them.

    Args:
        store: holds predictions, corrections and calibrations.
        settings: how predictions are judged.
        version: what labels them anew; images that it has labeled are left out.
        untouched: tells what people have worked on, beyond what is collected.
    """

    def __init__(
        self, store: Store, settings: ReviewSettings, version: str, untouched: Untouched
    ) -> None:
        self._tables = PredictionTables(store)
        self._corrected = CorrectionTable(store).units()
        self._settings = settings
        self._version = version
        self._untouched = untouched
        self._shelf = CalibrationShelf(store)
        self._judge = lru_cache(maxsize=_VERSIONS_AT_ONCE)(self._judge_of)

    def choose(
        self, asked: Iterable[ImageTasks], most: int | None, advance: Callable[[int], None]
    ) -> list[str]:
        """Return the ids of at most ``most`` images (None: any number), the worst first.

        Memory holds their names and all queries that differ.

        Args:
            asked: what the run asks.
            most: the most images.
            advance: is told how many more images were looked at.
        """
        images, queries = [], set()
        for work in asked:
            images.append(work.image.id)
            queries |= {(task.label, task.query) for task in work.tasks if not task.rewords}
        scored = self._scored(images, queries, advance)
        chosen = sorted(scored) if most is None else heapq.nsmallest(most, scored)
        return [image for _, image in chosen]

    def _scored(
        self, images: Sequence[str], queries: set[tuple[str, str]], advance: Callable[[int], None]
    ) -> Iterator[tuple[float, str]]:
        """Yield the images that are worth it, with how good their worst mask is expected to be."""
        latest = self._tables.latest(images)
        while block := list(islice(latest, _IMAGES_AT_ONCE)):
            candidates = {
                rows[0].image_id: kept for rows in block if (kept := self._open(rows, queries))
            }
            for image in self._untouched(candidates) if candidates else ():
                yield min(map(self._expected_iou, candidates[image])), image
            advance(len(block))

    def _open(self, rows: Sequence[Prediction], queries: set[tuple[str, str]]) -> list[Prediction]:
        """Return the predictions that are asked, of another version, and not corrected."""
        return [
            row
            for row in rows
            if row.model_version != self._version
            and (row.label, row.query) in queries
            and (row.image_id, row.label, row.query) not in self._corrected
        ]

    def _expected_iou(self, row: Prediction) -> float:
        return self._judge(row.model_version).expected_iou(features_of(row))

    def _judge_of(self, version: str) -> Judge:
        return Judge(self._settings, self._shelf.latest(version), None)
