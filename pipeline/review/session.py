"""One publishing of a run, as review sees it: which images people get, in which order, how."""

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

from pipeline.plan import Plan
from pipeline.records import Prediction
from pipeline.review.accepted import AcceptedTable, Decision, has_accepted
from pipeline.review.calibration import CalibrationShelf
from pipeline.review.judge import Judge
from pipeline.review.rule import standing_rule
from pipeline.review.settings import ReviewSettings
from pipeline.storage.store import Store
from pipeline.storage.tables import PredictionTables


class ReviewSession:
    """A context manager: leaving it in good order writes down which predictions are accepted.

    Left early it writes nothing, and the next session decides the same again. ``judge`` says how
    the images that :meth:`for_people` yields are shown.

    Raises:
        StorageError: the store failed.
        StoppedError: on leaving, when another process decides about the same store.
    """

    def __init__(
        self,
        settings: ReviewSettings,
        store: Store,
        tables: PredictionTables,
        plan: Plan,
        *,
        model_version: str,
        say: Callable[[str], None],
    ) -> None:
        self._tables = tables
        self._plan = plan
        self._say = say
        calibration = CalibrationShelf(store).latest(model_version)
        rule = standing_rule(settings, store, tables, plan, calibration)
        if settings.accept and not rule.on:
            say(f"no image is accepted without a look: {rule.reason}")
        self.judge = Judge(settings, calibration, rule.threshold if rule.on else None)
        kept = settings.accept or has_accepted(store)
        self._accepted = AcceptedTable(store) if kept else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write down what was decided, unless the publishing broke off."""
        if kind is not None or self._accepted is None:
            return
        self._accepted.commit()
        if self.judge.withheld:
            self._say(f"{self.judge.withheld} images are accepted without a look")

    def for_people(self) -> Iterator[list[Prediction]]:
        """Yield the predictions of each image of the plan that people should get."""
        keys = [*self._plan.keys, *self._plan.rewordings]
        images = self._tables.read_by_image(keys)
        return self.judge.for_people(images, self._plan.rewordings, self._note)

    def _note(self, decisions: Sequence[Decision]) -> None:
        if self._accepted is not None:
            self._accepted.note(decisions)
