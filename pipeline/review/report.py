"""How a calibration ends: for people and as JSON."""

from dataclasses import asdict, dataclass
from typing import Any

from pipeline.bootstrap import Interval
from pipeline.review.reliability import Reliability
from pipeline.review.rule import Rule
from pipeline.review.study import Study


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """A study, where its calibration lies, and how the rule before it stood."""

    study: Study
    path: str
    before: Rule

    def to_json(self) -> dict[str, Any]:
        """Return the documented keys; intervals are [low, high]."""
        found = self.study
        calibration = found.calibration
        return {
            "calibration": calibration.number,
            "path": self.path,
            "model_version": calibration.model_version,
            "corrections": calibration.corrections,
            "unit": found.unit,
            "kind": calibration.curve.kind,
            "errors": found.errors,
            "held_out": asdict(found.held_out),
            "blank": asdict(found.blank) if found.blank else None,
            "acceptance": calibration.acceptance.model_dump() if calibration.acceptance else None,
            "search": asdict(found.search) if found.search else None,
            "rule_before": asdict(self.before),
            "arms": asdict(found.arms),
        }

    def to_text(self) -> str:
        """Return a few lines for a person."""
        found = self.study
        calibration = found.calibration
        errors = ", ".join(f"{kind} {error:.4f}" for kind, error in found.errors.items())
        lines = [
            f"calibration {calibration.number} of model {calibration.model_version}: "
            f"{calibration.curve.kind}, from {calibration.corrections} corrections "
            f"(mean squared error: {errors})",
            _errors(f"held out ({found.unit}s)", found.held_out),
            "expected → observed IoU: "
            + ", ".join(
                f"{piece.expected:.2f} → {piece.observed:.2f} ({piece.rows})"
                for piece in found.held_out.curve
            ),
        ]
        if found.blank:
            lines.append(_errors("blank images", found.blank))
        lines += [self._rule(), self._arms(), f"written: {self.path}"]
        if self.before.reason.startswith("the audit"):
            lines.insert(0, self.before.reason.replace("; run 'readloop calibrate'", ""))
        return "\n".join(lines)

    def _rule(self) -> str:
        acceptance, search = self.study.calibration.acceptance, self.study.search
        if search is None:
            return "accepting without a look: not asked for (review.accept)"
        if acceptance is None:
            return (
                f"accepting without a look: no threshold; of the {search.sample} sample "
                f"{search.images} images could be tested, {search.needed} over the threshold are "
                "needed even without a wrong one"
            )
        return (
            f"accepting without a look: from expected IoU {acceptance.threshold:.2f} on; "
            f"{acceptance.wrong} of {acceptance.images} such images hold a mask below "
            f"{acceptance.iou}, so at most {100 * acceptance.bound:.1f} % do "
            f"({100 * acceptance.confidence:.0f} % confidence)"
        )

    def _arms(self) -> str:
        arms = self.study.arms
        if arms.saved is None or arms.iou_gap is None:
            return "what predictions save: not known, no blank image has been reviewed"
        return (
            f"what predictions save: a blank query takes {arms.blank.seconds:.1f} s, a shown one "
            f"{arms.shown.seconds:.1f} s ({100 * arms.saved:.0f} % saved"
            f"{_range(arms.saved_ci, 100)}); IoU with the prediction differs by "
            f"{arms.iou_gap:+.3f}{_range(arms.iou_gap_ci)} when it is shown"
        )


def _errors(name: str, found: Reliability) -> str:
    return (
        f"{name}: calibration error {found.ece:.3f}{_range(found.ece_ci)}, mean absolute error "
        f"{found.mae:.3f}{_range(found.mae_ci)}, bias {found.bias:+.3f}{_range(found.bias_ci)} "
        f"on {found.rows} corrections"
    )


def _range(interval: Interval | None, scale: float = 1) -> str:
    if interval is None:
        return ""
    digits = 3 if scale == 1 else 0
    low, high = (scale * end for end in interval)
    return f" [{low:.{digits}f}, {high:.{digits}f}]"
