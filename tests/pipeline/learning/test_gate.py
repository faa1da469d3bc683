"""The gate: better beyond doubt and nothing forgotten, or the reasons why not."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.learning.exam import Exam, Judged
from pipeline.learning.gate import Decision, Stored, Trial, decide
from pipeline.learning.measures import measure
from pipeline.learning.settings import GateSettings
from pipeline.masks import empty, encode
from pipeline.records import Example, Prediction, Rle, Timings

WHOLE = Stored(weight_error=0.003, merged_loss=1e-6)
PIXELS = 1000


def answer(iou: float, group: str, *, present: bool = True, found: bool = True) -> Judged:
    union = PIXELS if present or found else 0
    return Judged("road", group, present, found, found, int(iou * PIXELS), union)


def trial(version: str, ious: Mapping[str, list[float]], **parts: Any) -> Trial:
    """A trial with one present query for each value of each group."""
    holdout = {
        f"{group} {number}": answer(iou, group)
        for group, values in ious.items()
        for number, iou in enumerate(values)
    }
    absent = {"x": answer(0, "g1", present=False, found=False)}
    replay = {"s": answer(0.6, "s")}
    values: dict[str, Any] = {"holdout": holdout | absent, "replay": replay, "dialogue": 2.5}
    return Trial(version, **{**values, **parts})


def groups(mean: float, count: int = 12, spread: float = 0.05) -> dict[str, list[float]]:
    random = np.random.default_rng(1)
    return {f"g{n}": list(mean + spread * random.standard_normal(4)) for n in range(count)}


def verdict(candidate: Trial, incumbent: Trial, stored: Stored = WHOLE, **gate: Any) -> Decision:
    settings = GateSettings.model_validate(gate)
    return decide("000001-abc", candidate, incumbent, stored, settings)


def test_what_is_better_in_every_group_is_promoted() -> None:
    decision = verdict(trial("new", groups(0.6)), trial("old", groups(0.5)))
    assert decision.promoted
    assert decision.gain == pytest.approx(0.1, abs=0.002)
    assert decision.gain_ci[0] > 0.09
    assert decision.reasons[-1] == "promoted"
    assert decision.metrics["candidate"]["holdout"]["presence"] == 1.0
    assert decision.metrics["incumbent"]["dialogue_loss"] == 2.5


def test_the_same_answers_are_not_better() -> None:
    decision = verdict(trial("new", groups(0.5)), trial("old", groups(0.5)))
    assert not decision.promoted
    assert (decision.gain, decision.gain_ci) == (0.0, (0.0, 0.0))


def test_one_group_with_many_queries_is_no_proof() -> None:
    old = {f"g{n}": [0.5] for n in range(12)}
    new = {**old, "g0": [0.9] * 40}
    decision = verdict(trial("new", new), trial("old", {**old, "g0": [0.5] * 40}))
    assert decision.gain > 0.3
    assert decision.gain_ci[0] == 0
    assert not decision.promoted
    assert "lower bound is not above 0" in decision.reasons[0]


def test_too_few_groups_decide_nothing() -> None:
    pair = trial("new", groups(0.9, 2)), trial("old", groups(0.2, 2))
    decision = verdict(*pair)
    assert not decision.promoted
    assert "2 held-out groups count, at least 3" in decision.reasons[1]
    assert verdict(*pair, groups=2).promoted


@pytest.mark.parametrize("metric", ["iou", "ciou"])
def test_groups_without_a_present_object_do_not_count(metric: str) -> None:
    nothing = {f"{n}": answer(0, f"empty {n}", present=False, found=False) for n in range(5)}
    new, old = trial("new", groups(0.6, 1)), trial("old", groups(0.5, 1))
    pair = [replace(one, holdout={**one.holdout, **nothing}) for one in (new, old)]
    decision = verdict(*pair, metric=metric)
    assert decision.gain_ci[0] > 0
    assert not decision.promoted
    assert "on 1 held-out groups changed" in decision.reasons[0]
    assert "1 held-out groups count, at least 3" in decision.reasons[1]


LOSES: dict[str, dict[str, Any]] = {
    "replay_iou": {"replay": {"s": answer(0.5, "s")}},
    "replay_denied": {
        "replay": {"s": answer(0.6, "s"), "t": answer(0, "t", present=False, found=True)}
    },
    "dialogue_loss": {"dialogue": 2.75},
}


@pytest.mark.parametrize("name", LOSES)
def test_what_is_guarded_forbids_when_it_falls_by_more_than_its_margin(name: str) -> None:
    kept = {"s": answer(0.6, "s"), "t": answer(0, "t", present=False, found=False)}
    old = trial("old", groups(0.5), **({"replay": kept} if name == "replay_denied" else {}))
    new = trial("new", groups(0.6), **LOSES[name])
    decision = verdict(new, old)
    assert [guard.name for guard in decision.guards if not guard.ok] == [name]
    assert not decision.promoted
    assert any(reason.startswith(f"{name} went from") for reason in decision.reasons)
    assert verdict(new, old, margins={name: 1.0}).promoted


@pytest.mark.parametrize("name", LOSES)
def test_losses_within_the_margin_add_up(name: str) -> None:
    def guarded(version: str, mean: float, place: int) -> Trial:
        """Forget a little more with every place: less than a margin from each to the next."""
        denied = {
            f"t{number}": answer(0, "t", present=False, found=number < 4 * place)
            for number in range(100)
        }
        parts = {
            "replay_iou": {"replay": {"s": answer(0.6 - 0.04 * place, "s")}},
            "replay_denied": {"replay": {"s": answer(0.6, "s"), **denied}},
            "dialogue_loss": {"dialogue": 2.5 + 0.08 * place},
        }
        return trial(version, groups(mean), **parts[name])

    first, old, new = (guarded(f"v{n}", 0.4 + 0.1 * n, n) for n in range(3))
    settings = GateSettings()
    assert decide("000002-abc", old, first, WHOLE, settings).promoted
    assert decide("000003-abc", new, old, WHOLE, settings).promoted
    decision = decide("000003-abc", new, old, WHOLE, settings, first=first)
    assert [guard.name for guard in decision.guards if not guard.ok] == [f"{name}_since_first"]
    assert not decision.promoted
    assert any(reason.startswith(f"{name}_since_first went from") for reason in decision.reasons)


def test_masks_that_a_person_would_accept_are_guarded() -> None:
    fair, good = {f"g{n}": [0.7] * 4 for n in range(12)}, {f"g{n}": [0.9, 0.2] for n in range(12)}
    decision = verdict(trial("new", fair), trial("old", good))
    assert decision.gain_ci[0] > 0
    assert [guard.name for guard in decision.guards if not guard.ok] == ["accepted"]


def test_summed_pixels_are_guarded() -> None:
    def one_large(large: float, small: float) -> dict[str, Judged]:
        sizes = {
            "large": (large, 100 * PIXELS),
            **{f"small {n}": (small, PIXELS) for n in range(9)},
        }
        return {
            f"g{group} {name}": Judged(
                "road", f"g{group}", True, True, True, int(iou * union), union
            )
            for group in range(6)
            for name, (iou, union) in sizes.items()
        }

    new, old = (
        trial(name, {}, holdout=one_large(*ious))
        for name, ious in (("new", (0.5, 0.7)), ("old", (0.6, 0.5)))
    )
    decision = verdict(new, old)
    assert decision.gain_ci[0] > 0
    assert [guard.name for guard in decision.guards if not guard.ok] == ["ciou"]


def test_presence_is_guarded() -> None:
    new, old = trial("new", groups(0.6)), trial("old", groups(0.5))
    wrong = {**new.holdout, "x": answer(0, "g1", present=False, found=True)}
    decision = verdict(replace(new, holdout=wrong), old, margins={"presence": 0.0})
    assert [guard.name for guard in decision.guards if not guard.ok] == ["presence"]


def test_weights_that_are_not_what_was_trained_are_not_promoted() -> None:
    pair = trial("new", groups(0.6)), trial("old", groups(0.5))
    for stored in (Stored(0.01, 0.0), Stored(0.0, 0.01)):
        assert not verdict(*pair, stored=stored).promoted


def test_queries_that_only_the_incumbent_answers_forbid() -> None:
    new, old = trial("new", groups(0.6)), trial("old", groups(0.5))
    fewer = {key: value for key, value in new.holdout.items() if key != "g1 0"}
    decision = verdict(replace(new, holdout=fewer), old)
    assert [guard.name for guard in decision.guards if not guard.ok] == ["unanswered"]
    more = {key: value for key, value in old.holdout.items() if key != "g1 0"}
    assert verdict(new, replace(old, holdout=more)).promoted


@pytest.mark.parametrize(
    ("metric", "gain"), [("iou", 0.25), ("giou", 2.5 / 4 - 3 / 4), ("ciou", 0.55 - 0.5)]
)
def test_the_measure_that_decides_is_a_choice(metric: str, gain: float) -> None:
    def scores(*, better: bool) -> dict[str, Judged]:
        found = {}
        for n in range(6):
            small = Judged("a", f"g{n}", True, True, True, 10 if better else 5, 10)
            large = Judged("a", f"g{n}", True, True, True, 45, 90)
            absent = Judged("a", f"g{n}", False, better, better, 0, 5 if better else 0)
            other = Judged("a", f"g{n}", False, False, False, 0, 0)
            found |= {f"{n}s": small, f"{n}l": large, f"{n}x": absent, f"{n}y": other}
        return found

    new, old = (
        trial(name, {}, holdout=scores(better=name == "new"), replay={}) for name in ("new", "old")
    )
    assert verdict(new, old, metric=metric).gain == pytest.approx(gain)


def test_the_interval_covers_what_is_true() -> None:
    random = np.random.default_rng(0)
    held = 0
    for _ in range(100):
        shift = 0.1 * random.standard_normal(15)
        old = {f"g{n}": list(0.5 + 0.05 * random.standard_normal(3)) for n in range(15)}
        new = {
            key: [iou + 0.05 + shift[n] for iou in values]
            for n, (key, values) in enumerate(old.items())
        }
        low, high = verdict(trial("new", new), trial("old", old)).gain_ci
        held += low <= 0.05 <= high
    assert 84 <= held <= 99


def _example(name: str, label: str, mask: Rle, *, present: bool = True) -> Example:
    return Example(
        name,
        "i",
        "file:///i.png",
        "e",
        "g",
        "holdout",
        "correction",
        label,
        "q",
        present,
        mask,
        "",
        1,
    )


def test_answers_become_scores() -> None:
    truth = np.zeros((4, 6), bool)
    truth[:2] = True
    half = truth.copy()
    half[1] = False
    nothing = empty(4, 6)
    examples = [
        _example("1", "a", encode(truth)),
        _example("2", "b", encode(truth)),
        _example("3", "c", nothing, present=False),
        _example("4", "d", nothing, present=False),
    ]
    exam = Exam(examples)
    (work,) = exam.tasks("m", "{}")
    said = {"a": encode(half), "b": nothing, "c": nothing, "d": encode(half)}
    rows = [
        Prediction(
            *(task.key, "", "i", "file:///i.png", 1, "e", "g", 6, 4, task.label, "q"),
            present=task.label in "ad",
            answer="Sure, [SEG]." if task.label in "ad" else "No.",
            seg_probability=0.5,
            seg_vectors=(),
            mask=said[task.label],
            points=(),
            predicted_iou=0.5,
            stability=0.5,
            model_version="m",
            timings=Timings(0, 0, 0, 0, 0),
        )
        for task in work.tasks
    ]
    scores = exam.scores([rows])
    assert {key: score.iou for key, score in scores.items()} == {"1": 0.5, "2": 0, "3": 1, "4": 0}
    found = measure(list(scores.values()), 0.5)
    assert (found.iou, found.giou, found.ciou) == (0.25, 0.375, 6 / 24)
    assert (found.presence, found.emission, found.denied, found.accepted) == (0.5, 0.5, 0.5, 0.5)
    assert (found.by_label["a"].iou, found.by_label["a"].accepted) == (0.5, 1)
    assert (found.by_label["c"].iou, found.by_label["c"].denied) == (None, 1)
    assert (found.by_label["d"].emission, found.by_label["d"].giou) == (1, 0)
