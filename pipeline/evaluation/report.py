"""How an evaluation ends: for people and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.bootstrap import Interval
from pipeline.errors import ExitCode
from pipeline.evaluation.metrics import Figures
from pipeline.records import Failure

_SHOWN = 5


@dataclass(frozen=True)
class Evaluation:
    """Figures of one model on one split.

    ``model`` is where its weights lie, pinned. ``dialogue_loss`` is the mean negative
    log-likelihood, in nats a token, of ``dialogue_tokens`` tokens of plain answers.
    ``figures`` are over the queries that have a prediction; ``failures`` are the others, and with
    any of them the figures are not those of the published set.
    """

    dataset: str
    split: str
    model_version: str
    model: str
    figures: Figures
    dialogue_loss: float
    dialogue_tokens: int
    failures: Sequence[Failure]
    store: str

    @property
    def exit_code(self) -> ExitCode:
        """What the command ends with."""
        return ExitCode.FAILED_ROWS if self.failures else ExitCode.DONE

    def to_json(self) -> dict[str, Any]:
        """Return the documented keys; intervals are [low, high]."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "model_version": self.model_version,
            "model": self.model,
            **asdict(self.figures),
            "dialogue_loss": self.dialogue_loss,
            "dialogue_tokens": self.dialogue_tokens,
            "failed": len(self.failures),
            "store": self.store,
        }

    def to_text(self) -> str:
        """Return a few lines for a person, shares in percent."""
        figures = self.figures
        lines = [
            f"{self.dataset} {self.split}, model {self.model_version}: {figures.queries} queries "
            f"({figures.absent} absent) on {figures.images} images",
            f"gIoU {_percent(figures.giou)} {_range(figures.giou_ci)}   "
            f"cIoU {_percent(figures.ciou)} {_range(figures.ciou_ci)}",
            f"objects present only: gIoU {_percent(figures.giou_present)}, "
            f"cIoU {_percent(figures.ciou_present)}",
            f"see accuracy {_percent(figures.see_accuracy)}; denied in words: "
            f"{_percent(figures.denied_absent)} of the absent objects "
            f"({_percent(figures.corrected_absent)} with the true expression), "
            f"{_percent(figures.denied_present)} of the present ones",
            f"plain dialogue: {self.dialogue_loss:.3f} nats a token over "
            f"{self.dialogue_tokens} tokens",
            f"predictions: {self.store}",
        ]
        if self.failures:
            lines.append(f"{len(self.failures)} queries failed: these are not the set's figures")
        lines += [
            f"failed: {failure.image} {failure.query[:60]!r}: {failure.reason}"
            for failure in self.failures[:_SHOWN]
        ]
        return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _range(interval: Interval) -> str:
    return f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
