"""The rule that spares people images, as it stands on a store: on, off, and why.

A calibration carries the threshold; it is used as long as the run asks for the rule with the same
settings and the audit does not contradict it. Once contradicted, the rule of that calibration stays
off; the next calibration has the audit's images among its own and decides anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.draws import drawn
from pipeline.plan import Plan
from pipeline.review.acceptance import Judged, contradicts, evidence
from pipeline.review.calibration import Acceptance, AuditStop, Calibration, CalibrationShelf
from pipeline.review.evidence import ReviewedImage, reviewed_images
from pipeline.review.settings import ReviewSettings
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.store import Store
from pipeline.storage.tables import PredictionTables


@dataclass(frozen=True, slots=True)
class Rule:
    """Whether images may be accepted; ``reason`` says why not, empty when they may.

    ``audited`` images of the audit lie over the threshold and were judged after the calibration,
    ``wrong`` of them hold a mask below the bar; ``evidence`` against the rule turns it off at
    1 / (1 - confidence).
    """

    on: bool
    reason: str
    threshold: float | None = None
    audited: int = 0
    wrong: int = 0
    evidence: float = 1.0


def standing_rule(
    settings: ReviewSettings,
    store: Store,
    tables: PredictionTables,
    plan: Plan,
    calibration: Calibration | None,
) -> Rule:
    """Return how the rule stands, after a look at the audit, which may turn it off for good.

    Args:
        settings: of the run.
        store: holds calibrations and corrections.
        tables: the store's predictions.
        plan: all that the run asks.
        calibration: the one that counts for the run's model, None without one.
    """
    if not settings.accept:
        return Rule(on=False, reason="the run file does not ask for it (review.accept)")
    if calibration is None:
        return Rule(on=False, reason="the model is not calibrated yet; run 'readloop calibrate'")
    acceptance = calibration.acceptance
    if acceptance is None:
        return Rule(
            on=False,
            reason=f"calibration {calibration.number} found no threshold that the bound allows",
        )
    if (acceptance.iou, acceptance.error, acceptance.confidence) != wanted(settings):
        return Rule(
            on=False,
            reason=f"calibration {calibration.number} was made for another iou, error or "
            "confidence; run 'readloop calibrate'",
        )
    corrections = CorrectionTable(store).latest()
    images = reviewed_images(plan, corrections, tables)
    return _after_audit(images, settings, CalibrationShelf(store), calibration, acceptance)


def wanted(settings: ReviewSettings) -> tuple[float, float, float]:
    """Return the bar, the error and the confidence that a run asks for."""
    return settings.accept_iou, settings.accept_error, settings.accept_confidence


def judged(image: ReviewedImage, calibration: Calibration, iou: float) -> Judged:
    """Return an image as the rule sees it: by its least sure and by its worst prediction."""
    return Judged(
        expected_iou=min(calibration.expected_iou(row.features) for row in image.examples),
        wrong=any(row.iou < iou for row in image.examples),
    )


def in_audit(image: ReviewedImage, settings: ReviewSettings) -> bool:
    """Return whether an image belongs to the sample that people see in any case."""
    return image.arm == "shown" and drawn("audit", image.image_id, settings.audit_share)


def _after_audit(
    images: Sequence[ReviewedImage],
    settings: ReviewSettings,
    shelf: CalibrationShelf,
    calibration: Calibration,
    acceptance: Acceptance,
) -> Rule:
    seen = [
        judged(image, calibration, acceptance.iou)
        for image in images
        if image.complete and in_audit(image, settings) and image.updated_at > calibration.made_at
    ]
    over = [image for image in seen if image.expected_iou >= acceptance.threshold]
    wrong = sum(image.wrong for image in over)
    against = evidence(wrong, len(over), acceptance.error)
    stopped = shelf.stopped(calibration)
    if stopped is None and contradicts(wrong, len(over), acceptance.error, acceptance.confidence):
        stopped = AuditStop(
            calibration=calibration.number,
            images=len(over),
            wrong=wrong,
            evidence=against,
            stopped_at=datetime.now(UTC),
        )
        shelf.stop(stopped)
    reason = "" if stopped is None else _explain(stopped)
    return Rule(
        on=stopped is None,
        reason=reason,
        threshold=acceptance.threshold,
        audited=len(over),
        wrong=wrong,
        evidence=against,
    )


def _explain(stop: AuditStop) -> str:
    return (
        f"the audit contradicts calibration {stop.calibration}: {stop.wrong} of {stop.images} "
        "accepted images are wrong; run 'readloop calibrate'"
    )
