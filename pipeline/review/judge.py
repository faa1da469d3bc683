"""How an image goes to people: with which score, with its predictions or blank, or not at all."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.draws import drawn
from pipeline.records import Arm, Prediction
from pipeline.review.accepted import Decision
from pipeline.review.calibration import Calibration
from pipeline.review.evidence import split_rewordings
from pipeline.review.priority import Features, features_of, hand_made
from pipeline.review.settings import ReviewSettings

FIRST = 0.0


@dataclass(frozen=True, slots=True)
class Standing:
    """What was decided about one image.

    ``expected`` is the expected IoU of each prediction, by key, and ``scores`` what its task is
    ordered by: a task has the lowest of its queries, and the lowest are looked at first.
    ``accepted`` images need not be looked at. ``calibration`` is the number of the one that
    decided, 0 without one.
    """

    arm: Arm
    expected: Mapping[str, float]
    scores: Mapping[str, float]
    accepted: bool
    calibration: int

    def decisions(self, rows: Sequence[Prediction]) -> list[Decision]:
        """Return what the table of accepted predictions has to say about them."""
        return [
            Decision(
                key=row.key,
                image_id=row.image_id,
                label=row.label,
                model_version=row.model_version,
                accepted=self.accepted,
                expected_iou=self.expected[row.key],
                calibration=self.calibration,
            )
            for row in rows
        ]


class Judge:
    """Decides about images by a calibration (None: by the hand-made formula), and remembers it.

    ``threshold`` is the expected IoU from which on images are accepted, None to accept none.
    ``withheld`` counts the accepted images.
    """

    def __init__(
        self, settings: ReviewSettings, calibration: Calibration | None, threshold: float | None
    ) -> None:
        self._settings = settings
        self._calibration = calibration
        self._threshold = threshold
        self._scores: dict[str, float] = {}
        self.withheld = 0

    @property
    def name(self) -> str:
        """What is different when scores are."""
        settings, number = self._settings, self._calibration.number if self._calibration else 0
        audit = settings.audit_share if settings.accept else 0.0
        return f"calibration {number}, audit {audit}"

    def for_people(
        self,
        images: Iterable[Sequence[Prediction]],
        rewordings: Mapping[str, str],
        record: Callable[[Sequence[Decision]], None],
    ) -> Iterator[list[Prediction]]:
        """Yield the predictions of each image that people should see, its rewordings left out.

        Args:
            images: all predictions of one image at a time.
            rewordings: the keys of other wordings with the keys of what they reword.
            record: is told what was decided about the predictions of each image.
        """
        for rows in images:
            own, others = split_rewordings(rows, rewordings)
            if not own:
                continue
            standing = self.standing(own, others)
            record(standing.decisions(own))
            if standing.accepted:
                self.withheld += 1
                continue
            self._scores |= standing.scores
            yield own

    def score(self, rows: Sequence[Prediction]) -> float:
        """Return the score of a task of an image that :meth:`for_people` has yielded."""
        return min(self._scores[row.key] for row in rows)

    def arm(self, rows: Sequence[Prediction]) -> Arm:
        """Return whether an image's predictions are shown."""
        blank = drawn("blank", rows[0].image_id, self._settings.blank_share)
        return "blank" if blank else "shown"

    def standing(
        self, rows: Sequence[Prediction], rewordings: Mapping[str, Sequence[Prediction]]
    ) -> Standing:
        """Decide about an image.

        Args:
            rows: its predictions, at least one.
            rewordings: what other wordings made of it, by the key of the prediction.
        """
        settings = self._settings
        expected = {
            row.key: self.expected_iou(features_of(row, rewordings.get(row.key, ())))
            for row in rows
        }
        arm = self.arm(rows)
        audited = settings.accept and drawn("audit", rows[0].image_id, settings.audit_share)
        over = self._threshold is not None and min(expected.values()) >= self._threshold
        return Standing(
            arm=arm,
            expected=expected,
            scores=dict.fromkeys(expected, FIRST) if audited else expected,
            accepted=over and not audited and arm == "shown",
            calibration=self._calibration.number if self._calibration else 0,
        )

    def expected_iou(self, features: Features) -> float:
        """Return the expected IoU of a prediction, the hand-made priority without a calibration."""
        if self._calibration is None:
            return hand_made(features)
        return self._calibration.expected_iou(features)
