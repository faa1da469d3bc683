"""From corrections to a calibration that publishing uses from then on. The recipe."""

import threading

from pipeline.config import RunFile
from pipeline.label import LabelRun
from pipeline.progress import Progress
from pipeline.review.calibration import CalibrationShelf
from pipeline.review.evidence import reviewed_images
from pipeline.review.report import CalibrationReport
from pipeline.review.rule import standing_rule
from pipeline.review.study import study
from pipeline.storage.corrections import CorrectionTable


def calibrate(run_file: RunFile, stop: threading.Event, progress: Progress) -> CalibrationReport:
    """Fit expected IoU to the corrections of what a run asks, and store the result.

    Raises:
        InputError: there are too few corrections.
        ModelUnusableError: the model cannot be found.
        StorageError: the store failed.
        StoppedError: ``stop`` was set.
    """
    run = LabelRun(run_file.model_copy(update={"labelstudio": None}), None, stop, progress)
    run.plan_all()
    progress.say("comparing corrections with predictions")
    shelf = CalibrationShelf(run.store)
    calibration = shelf.latest(run.model.version)
    before = standing_rule(run_file.review, run.store, run.tables, run.plan, calibration)
    images = reviewed_images(run.plan, CorrectionTable(run.store).latest(), run.tables)
    found = study(
        images,
        run_file.review,
        model_version=run.model.version,
        number=shelf.next_number(),
        every_image=sum(image.complete for image in images) >= _reviewable(run),
    )
    return CalibrationReport(found, shelf.write(found.calibration), before)


def _reviewable(run: LabelRun) -> int:
    """Return how many of the run's images could be reviewed: those that did not fail as a whole."""
    failed = {failure.key for failure in run.failures()}
    return sum(not failed.issuperset(keys) for keys in run.plan.keys_by_image())
