"""Only if better: a candidate takes the place of the incumbent, or the reasons why not.

Both have answered the same held-out queries. The gain is bootstrapped in pairs, by group, because
pictures of one group go right and wrong together. What may be forgotten is also compared with the
model that learning began with: small losses, each within its margin, add up otherwise.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.bootstrap import Interval, cluster_sums, interval, resample
from pipeline.learning.exam import Judged
from pipeline.learning.measures import Measures, measure
from pipeline.learning.settings import GateSettings, Metric

_NAMES: dict[Metric, str] = {
    "iou": "mean IoU over present queries",
    "giou": "mean IoU over all queries",
    "ciou": "summed intersection over union",
}
_MERGED_LOSS = 1e-3
"""Merging is exact up to the order of sums: the loss may not differ by more than that."""


_FORGETTING = ("replay_iou", "replay_denied", "dialogue_loss")

_Measured = tuple[Measures, Measures, float]
"""Held-out answers, what is replayed, and the loss of plain dialogue."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What one model answered: scores by example, and its loss on plain dialogue (nats a token)."""

    version: str
    holdout: Mapping[str, Judged]
    replay: Mapping[str, Judged]
    dialogue: float


@dataclass(frozen=True, slots=True)
class Stored:
    """How far the candidate's stored weights are from those that were trained."""

    weight_error: float
    merged_loss: float


@dataclass(frozen=True, slots=True)
class Guard:
    """A measure that may not fall by more than ``margin``; None: nothing to count.

    ``incumbent`` is what the candidate is compared with: of a guard ``*_since_first`` the figure of
    the model that learning began with.
    """

    name: str
    candidate: float | None
    incumbent: float | None
    margin: float
    ok: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the candidate is promoted, and everything that this follows from.

    ``gain`` is the candidate's measure minus the incumbent's, ``gain_ci`` its interval over
    resampled groups. ``metrics`` holds ``candidate`` and ``incumbent``, each with ``holdout``,
    ``replay`` and ``dialogue_loss``.
    """

    snapshot: str
    candidate: str
    incumbent: str
    metrics: dict[str, Any]
    gain: float
    gain_ci: Interval
    guards: tuple[Guard, ...]
    promoted: bool
    reasons: tuple[str, ...]
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the documented keys."""
        return asdict(self)


def decide(
    snapshot: str,
    candidate: Trial,
    incumbent: Trial,
    stored: Stored,
    settings: GateSettings,
    *,
    first: Trial | None = None,
) -> Decision:
    """Compare two models on what both have answered.

    ``first`` is the model that learning began with, of which only ``replay`` and ``dialogue``
    count; None where that is the incumbent.
    """
    pair = _paired(candidate, incumbent)
    measured = {
        name: _measured(trial, settings)
        for name, trial in zip(("candidate", "incumbent"), pair, strict=True)
    }
    counted = _counted(pair, settings.metric)
    groups = len({ours.group for ours, _ in counted})
    gain, bounds = _gain(counted, settings.metric)
    guards = (
        *_guards(measured["candidate"], measured["incumbent"], settings),
        *(_since_first(candidate, first, settings) if first else ()),
        *_integrity(candidate, incumbent, stored, settings),
    )
    reasons = [
        *_of_gain(gain, bounds, groups, settings),
        *(_of_guard(guard) for guard in guards if not guard.ok),
    ]
    promoted = _enough(bounds, groups, settings) and all(guard.ok for guard in guards)
    return Decision(
        snapshot=snapshot,
        candidate=candidate.version,
        incumbent=incumbent.version,
        metrics={name: _plain(values) for name, values in measured.items()},
        gain=gain,
        gain_ci=bounds,
        guards=guards,
        promoted=promoted,
        reasons=(*reasons, "promoted" if promoted else "not promoted"),
    )


def _paired(candidate: Trial, incumbent: Trial) -> tuple[Trial, Trial]:
    """Return both trials with only those answers that both have given."""
    holdout = candidate.holdout.keys() & incumbent.holdout.keys()
    replay = candidate.replay.keys() & incumbent.replay.keys()

    def only(trial: Trial) -> Trial:
        return replace(
            trial,
            holdout={key: trial.holdout[key] for key in sorted(holdout)},
            replay={key: trial.replay[key] for key in sorted(replay)},
        )

    return only(candidate), only(incumbent)


def _counted(pair: tuple[Trial, Trial], metric: Metric) -> list[tuple[Judged, Judged]]:
    """Return the held-out answers of both that enter the gain."""
    return [
        (ours, pair[1].holdout[key])
        for key, ours in pair[0].holdout.items()
        if ours.present or metric == "giou"
    ]


def _gain(counted: Sequence[tuple[Judged, Judged]], metric: Metric) -> tuple[float, Interval]:
    """Return the gain and its interval: 0 and [0, 0] where nothing counts."""
    if not counted:
        return 0.0, (0.0, 0.0)
    values = [
        (1, a.iou, b.iou, a.intersection, b.intersection, a.union, b.union) for a, b in counted
    ]
    sums = cluster_sums([ours.group for ours, _ in counted], np.array(values, np.float64))
    gain = _gains(sums.sum(axis=0, keepdims=True), metric)
    return float(gain[0]), interval(_gains(resample(sums), metric))


def _gains(sums: NDArray[np.float64], metric: Metric) -> NDArray[np.float64]:
    """Return the candidate's measure minus the incumbent's, for each row of sums (N, 7)."""
    if metric == "ciou":
        ours, theirs = (sums[:, 3 + who] / np.maximum(sums[:, 5 + who], 1) for who in (0, 1))
        return np.asarray(ours - theirs)
    return np.asarray((sums[:, 1] - sums[:, 2]) / sums[:, 0])


def _measured(trial: Trial, settings: GateSettings) -> _Measured:
    return (
        measure(list(trial.holdout.values()), settings.acceptable),
        measure(list(trial.replay.values()), settings.acceptable),
        trial.dialogue,
    )


def _guards(ours: _Measured, theirs: _Measured, settings: GateSettings) -> tuple[Guard, ...]:
    margins = settings.margins
    read: dict[str, tuple[float, Callable[[Measures, Measures], float | None]]] = {
        "ciou": (margins.ciou, lambda holdout, _: holdout.ciou),
        "presence": (margins.presence, lambda holdout, _: holdout.presence),
        "accepted": (margins.accepted, lambda holdout, _: holdout.accepted),
        "replay_iou": (margins.replay_iou, lambda _, replay: replay.iou),
        "replay_denied": (margins.replay_denied, lambda _, replay: replay.denied),
    }
    guards = []
    for name, (margin, value) in read.items():
        one, other = value(*ours[:2]), value(*theirs[:2])
        ok = one is None or other is None or one >= other - margin
        guards.append(Guard(name, one, other, margin, ok))
    ok = ours[2] <= theirs[2] + margins.dialogue_loss
    return (*guards, Guard("dialogue_loss", ours[2], theirs[2], margins.dialogue_loss, ok))


def _since_first(candidate: Trial, first: Trial, settings: GateSettings) -> Iterator[Guard]:
    """Yield what guards against forgetting, compared with the model that learning began with."""
    pair = _paired(replace(candidate, holdout={}), replace(first, holdout={}))
    ours, theirs = (_measured(trial, settings) for trial in pair)
    for guard in _guards(ours, theirs, settings):
        if guard.name in _FORGETTING:
            yield replace(guard, name=f"{guard.name}_since_first")


def _integrity(
    candidate: Trial, incumbent: Trial, stored: Stored, settings: GateSettings
) -> tuple[Guard, ...]:
    """Return what has to hold of the candidate itself: whole answers, and whole weights."""
    asked = [{*trial.holdout, *trial.replay} for trial in (candidate, incumbent)]
    lost = len(asked[1] - asked[0])
    error, tolerance = stored.weight_error, settings.merge_tolerance
    return (
        Guard("unanswered", float(lost), 0.0, 0.0, not lost),
        Guard("merge_weights", error, 0.0, tolerance, error <= tolerance),
        Guard(
            "merge_loss", stored.merged_loss, 0.0, _MERGED_LOSS, stored.merged_loss <= _MERGED_LOSS
        ),
    )


def _enough(bounds: Interval, groups: int, settings: GateSettings) -> bool:
    return bounds[0] > 0 and groups >= settings.groups


def _of_gain(gain: float, bounds: Interval, groups: int, settings: GateSettings) -> list[str]:
    above = "above" if bounds[0] > 0 else "not above"
    reasons = [
        f"{_NAMES[settings.metric]} on {groups} held-out groups changed by {gain:+.4f} "
        f"[{bounds[0]:+.4f}, {bounds[1]:+.4f}]: its lower bound is {above} 0"
    ]
    if groups < settings.groups:
        reasons.append(
            f"{groups} held-out groups count, at least {settings.groups} are needed "
            "(finetune.gate.groups): correct images of more groups"
        )
    return reasons


def _of_guard(guard: Guard) -> str:
    if guard.candidate is None or guard.incumbent is None:
        raise AssertionError("a guard without a value holds")
    change = guard.candidate - guard.incumbent
    return (
        f"{guard.name} went from {guard.incumbent:.4f} to {guard.candidate:.4f} "
        f"({change:+.4f}), more than its margin of {guard.margin:g}"
    )


def _plain(values: _Measured) -> dict[str, Any]:
    holdout, replay, dialogue = values
    return {"holdout": asdict(holdout), "replay": asdict(replay), "dialogue_loss": dialogue}
