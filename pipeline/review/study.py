"""From reviewed images to a calibration: half of the units fit it, the other half judge it.

Fitted is on corrections of predictions that people were shown. Corrections of blank images are
compared with the result and fit nothing: two drawings of one thing never agree whole, so an IoU
with a fresh drawing is lower than the share of a mask that a person would leave as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.draws import chance
from pipeline.errors import InputError
from pipeline.review.acceptance import choose, fewest_images, sequence
from pipeline.review.arms import ArmComparison, compare_arms
from pipeline.review.calibration import Acceptance, Calibration, Curve
from pipeline.review.evidence import Example, ReviewedImage, units
from pipeline.review.fitting import cross_validated, fit
from pipeline.review.reliability import Reliability, reliability
from pipeline.review.rule import in_audit, judged, wanted
from pipeline.review.settings import ReviewSettings

FEWEST_CORRECTIONS = 40
FEWEST_UNITS = 8
Sample = Literal["all", "audit"]


@dataclass(frozen=True, slots=True)
class Search:
    """How the threshold was looked for: in which sample, of how many images, and needing how many.

    ``sample`` is ``all`` when people have seen every image of the run, else ``audit``: what people
    look at first is no random sample, the audit is.
    """

    sample: Sample
    images: int
    needed: int


@dataclass(frozen=True, slots=True)
class Study:
    """What was found out. ``errors`` are the cross-validated mean squared errors of each kind."""

    calibration: Calibration
    unit: Literal["image", "group"]
    errors: dict[str, float]
    held_out: Reliability
    blank: Reliability | None
    search: Search | None
    arms: ArmComparison


def study(
    images: Sequence[ReviewedImage],
    settings: ReviewSettings,
    *,
    model_version: str,
    number: int,
    every_image: bool,
) -> Study:
    """Fit expected IoU to what people said, and judge it on other images.

    Args:
        images: those that people have worked on.
        settings: of the run.
        model_version: whose predictions they are.
        number: of the new calibration.
        every_image: people have seen every image of the run.

    Raises:
        InputError: there are too few corrections; the message says how many are missing.
    """
    of_unit = units(images, settings.independent)
    by_group = any(name != unit for name, unit in of_unit.items())
    shown = [image for image in images if image.arm == "shown"]
    fitting, judging = halves(shown, of_unit, settings, by_group=by_group)
    _check(shown, fitting, judging, of_unit)

    rows, names = _examples(fitting, of_unit)
    errors = cross_validated([row.features for row in rows], _ious(rows), names)
    kind = min(errors, key=lambda name: errors[name])
    curve = fit(kind, [row.features for row in rows], _ious(rows))
    calibration = Calibration(
        number=number,
        model_version=model_version,
        made_at=datetime.now(UTC),
        corrections=sum(len(image.examples) for image in shown),
        curve=curve,
        acceptance=None,
    )
    search = None
    if settings.accept:
        sample = [image for image in judging if every_image or in_audit(image, settings)]
        tested = _one_a_unit([image for image in sample if image.complete], of_unit)
        acceptance = _acceptance(calibration, fitting, tested, settings)
        calibration = calibration.model_copy(update={"acceptance": acceptance})
        _, error, confidence = wanted(settings)
        search = Search(
            "all" if every_image else "audit", len(tested), fewest_images(error, confidence)
        )
    blank = [image for image in images if image.arm == "blank"]
    return Study(
        calibration=calibration,
        unit="group" if by_group else "image",
        errors=errors,
        held_out=_reliability(curve, judging, of_unit),
        blank=_reliability(curve, blank, of_unit) if blank else None,
        search=search,
        arms=compare_arms(images, of_unit, calibration.expected_iou),
    )


def halves(
    images: Sequence[ReviewedImage],
    of_unit: dict[str, str],
    settings: ReviewSettings,
    *,
    by_group: bool,
) -> tuple[list[ReviewedImage], list[ReviewedImage]]:
    """Return the images that fit and those that judge; no unit has images in both.

    Where images are their own units, those of the audit all judge: it is the audit that bounds.
    """
    fitting: list[ReviewedImage] = []
    judging: list[ReviewedImage] = []
    for image in images:
        audited = settings.accept and not by_group and in_audit(image, settings)
        second = audited or chance("half", of_unit[image.image_id]) >= 0.5  # noqa: PLR2004
        (judging if second else fitting).append(image)
    return fitting, judging


def _check(
    shown: Sequence[ReviewedImage],
    fitting: Sequence[ReviewedImage],
    judging: Sequence[ReviewedImage],
    of_unit: dict[str, str],
) -> None:
    count = sum(len(image.examples) for image in shown)
    if count < FEWEST_CORRECTIONS:
        raise InputError(
            f"{count} corrections of this model's predictions are too few to calibrate: "
            f"{FEWEST_CORRECTIONS} are needed; review more images, then run 'readloop collect'"
        )
    for half in (fitting, judging):
        found = len({of_unit[image.image_id] for image in half})
        if found < FEWEST_UNITS:
            raise InputError(
                f"one half of the corrections comes from {found} independent images (or groups) "
                f"only, {FEWEST_UNITS} are needed; review images of other groups, or set "
                "review.independent to 'image' if images of a group are unlike each other"
            )


def _acceptance(
    calibration: Calibration,
    fitting: Sequence[ReviewedImage],
    tested: Sequence[ReviewedImage],
    settings: ReviewSettings,
) -> Acceptance | None:
    iou, error, confidence = wanted(settings)
    fitted = [judged(image, calibration, iou) for image in fitting]
    thresholds = sequence(fitted, len(tested), error, confidence)
    outcomes = [judged(image, calibration, iou) for image in tested]
    found = choose(thresholds, outcomes, error, confidence)
    if found is None:
        return None
    return Acceptance(
        threshold=found.threshold,
        iou=iou,
        error=error,
        confidence=confidence,
        images=found.images,
        wrong=found.wrong,
        bound=found.bound,
    )


def _one_a_unit(images: Sequence[ReviewedImage], of_unit: dict[str, str]) -> list[ReviewedImage]:
    """Return an image of each unit, drawn by its name: images of one unit are not independent."""
    chosen: dict[str, ReviewedImage] = {}
    for image in sorted(images, key=lambda image: chance("pick", image.image_id)):
        chosen.setdefault(of_unit[image.image_id], image)
    return list(chosen.values())


def _examples(
    images: Sequence[ReviewedImage], of_unit: dict[str, str]
) -> tuple[list[Example], list[str]]:
    pairs = [(row, of_unit[image.image_id]) for image in images for row in image.examples]
    return [row for row, _ in pairs], [name for _, name in pairs]


def _ious(rows: Sequence[Example]) -> NDArray[np.float64]:
    return np.array([row.iou for row in rows])


def _reliability(
    curve: Curve, images: Sequence[ReviewedImage], of_unit: dict[str, str]
) -> Reliability:
    rows, names = _examples(images, of_unit)
    expected = np.array([curve.expected_iou(row.features) for row in rows])
    return reliability(expected, _ious(rows), names)
