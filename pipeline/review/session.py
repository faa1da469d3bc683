"""One publishing of a run, as review sees it: which images people get, in which order, how."""

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

from pipeline.plan import Plan
from pipeline.records import Arm, Prediction
from pipeline.review.accepted import AcceptedTable, Decision, has_accepted
from pipeline.review.calibration import CalibrationShelf
from pipeline.review.judge import Judge
from pipeline.review.rule import standing_rule
from pipeline.review.settings import ReviewSettings
from pipeline.storage.store import Store
from pipeline.storage.tables import PredictionTables


class ReviewSession:
    """A context manager: leaving it in good order writes down which predictions are accepted.

    Left early it writes nothing, and the next session decides the same again. ``score``, ``arm``
    and ``name`` say how the images that :meth:`for_people` yields are shown. An image is judged by
    the calibration of the version that answered it: ``model_version``, unless replicas moved on to
    another one during the run.

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
        self._settings = settings
        self._store = store
        self._tables = tables
        self._plan = plan
        self._say = say
        self._judges: dict[str, Judge] = {}
        self.name = self._judge(model_version).name
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
        if self.withheld:
            self._say(f"{self.withheld} images are accepted without a look")

    def for_people(self) -> Iterator[list[Prediction]]:
        """Yield the predictions of each image of the plan that people should get."""
        keys = [*self._plan.keys, *self._plan.rewordings]
        rewordings = self._plan.rewordings
        for rows in self._tables.read_by_image(keys):
            judge = self._judge(rows[0].model_version)
            yield from judge.for_people([rows], rewordings, self._note)

    @property
    def withheld(self) -> int:
        """How many images are accepted without a look."""
        return sum(judge.withheld for judge in self._judges.values())

    def score(self, rows: Sequence[Prediction]) -> float:
        """See :meth:`pipeline.review.judge.Judge.score`."""
        return self._judge(rows[0].model_version).score(rows)

    def arm(self, rows: Sequence[Prediction]) -> Arm:
        """See :meth:`pipeline.review.judge.Judge.arm`."""
        return self._judge(rows[0].model_version).arm(rows)

    def _judge(self, version: str) -> Judge:
        if version not in self._judges:
            self._judges[version] = self._judge_of(version)
        return self._judges[version]

    def _judge_of(self, version: str) -> Judge:
        settings, store = self._settings, self._store
        calibration = CalibrationShelf(store).latest(version)
        rule = standing_rule(settings, store, self._tables, self._plan, calibration)
        if settings.accept and not rule.on:
            self._say(f"no image is accepted without a look: {rule.reason}")
        return Judge(settings, calibration, rule.threshold if rule.on else None)

    def _note(self, decisions: Sequence[Decision]) -> None:
        if self._accepted is not None:
            self._accepted.note(decisions)
