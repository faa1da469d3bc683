"""``calibrate`` on simulated people: what it fits and refuses, and what publishing makes of it."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml
from scipy.stats import spearmanr

from pipeline.cli import run
from pipeline.draws import drawn
from pipeline.errors import InputError, StorageError
from pipeline.records import Arm, Correction, Prediction
from pipeline.review.accepted import AcceptedTable
from pipeline.review.calibration import CalibrationShelf
from pipeline.review.evidence import reviewed_images, units
from pipeline.review.priority import features_of
from pipeline.review.settings import ReviewSettings
from pipeline.review.study import halves
from pipeline.storage.corrections import CorrectionTable

if TYPE_CHECKING:
    from tests.pipeline.review.conftest import Simulation

Simulate = Callable[..., "Simulation"]
Rejected = tuple["Simulation", Correction]


def noise(name: str) -> float:
    return float(np.random.default_rng(list(name.encode())).normal(0, 0.05))


def overconfident(name: str) -> float:
    """People find three quarters of what the model is sure of."""
    return float(np.clip(0.75 * score(name) + noise(name), 0, 1))


def score(name: str) -> float:
    from tests.pipeline.review.conftest import score_of  # noqa: PLC0415

    return score_of(name)


def test_the_curve_is_that_of_the_simulated_people(simulation: Simulate) -> None:
    made = simulation(300)
    made.correct(made.predictions(), overconfident)
    found = made.calibrate().study
    assert found.held_out.ece < 0.04
    assert abs(found.held_out.bias) < 0.03
    assert found.held_out.mae == pytest.approx(0.05 * np.sqrt(2 / np.pi), abs=0.015)
    rows = made.predictions()
    expected = [found.calibration.expected_iou(features_of(row)) for row in rows]
    truth = [0.75 * score(Path(row.image).name) for row in rows]
    assert np.abs(np.array(expected) - truth).mean() < 0.04
    assert set(found.errors) == {"isotonic", "logistic"}
    assert found.errors[found.calibration.curve.kind] == min(found.errors.values())


def test_publishing_orders_by_the_calibration_from_then_on(simulation: Simulate) -> None:
    made = simulation(120, blank_share=0)
    _, before = made.publish()
    made.correct(made.predictions(), overconfident)
    made.calibrate()
    _, after = made.publish()
    rows = made.predictions()
    hand_made = [before.score([row]) for row in rows]
    calibrated = [after.score([row]) for row in rows]
    assert hand_made == pytest.approx([score(Path(row.image).name) for row in rows])
    assert spearmanr(hand_made, calibrated).statistic > 0.9
    assert np.mean(calibrated) == pytest.approx(0.75 * np.mean(hand_made), abs=0.05)
    assert before.name != after.name


def test_too_few_corrections_are_refused_with_their_number(simulation: Simulate) -> None:
    made = simulation(60)
    made.correct(made.predictions()[:39], overconfident)
    with pytest.raises(InputError, match=r"39 corrections .* 40 are needed"):
        made.calibrate()
    assert CalibrationShelf(made.open().store).next_number() == 1


def test_corrections_of_one_group_are_refused_where_groups_count(simulation: Simulate) -> None:
    made = simulation(60, independent="group")
    made.correct(made.predictions(), overconfident)
    with pytest.raises(InputError, match=r"[01] independent images"):
        made.calibrate()


def ious(made: "Simulation", *corrections: Correction) -> list[float]:
    """Return the IoU of each prediction of the pictures that were judged as a whole."""
    opened = made.open()
    images = reviewed_images(opened.plan, corrections, opened.tables)
    return [example.iou for image in images if image.complete for example in image.examples]


@pytest.fixture
def rejected(simulation: Simulate) -> Rejected:
    """A picture whose mask somebody called wrong and left, as ``collect`` writes that down."""
    made = simulation(1)
    made.correct(made.predictions(), lambda _: 1.0)
    (row,) = CorrectionTable(made.open().store).latest()
    return made, replace(row, verdict="skipped", choice="wrong")


def test_a_mask_that_was_called_wrong_and_left_counts_0(rejected: Rejected) -> None:
    made, row = rejected
    assert ious(made, row) == [0.0]


def test_a_mask_that_was_called_wrong_and_repaired_counts_its_iou(rejected: Rejected) -> None:
    made, row = rejected
    assert ious(made, replace(row, verdict="edited", iou=0.9)) == [0.9]


def test_of_a_rejection_and_a_repair_the_later_one_counts(rejected: Rejected) -> None:
    made, row = rejected
    later = row.updated_at + timedelta(minutes=1)
    repaired = replace(row, id="another", annotator="8", verdict="edited", iou=0.9)
    assert ious(made, row, replace(repaired, updated_at=later)) == [0.9]
    assert ious(made, replace(row, updated_at=later), repaired) == [0.0]


def test_what_was_not_shown_cannot_be_rejected(rejected: Rejected) -> None:
    made, row = rejected
    assert ious(made, replace(row, arm="blank")) == []


def test_no_unit_is_on_both_sides(simulation: Simulate) -> None:
    made = simulation(60)
    made.correct(made.predictions(), overconfident)
    opened = made.open()
    images = reviewed_images(opened.plan, CorrectionTable(opened.store).latest(), opened.tables)
    images = [replace(image, group=f"video {n // 3}") for n, image in enumerate(images)]
    of_unit = units(images, "auto")
    assert len(set(of_unit.values())) == 20
    first, second = halves(images, of_unit, ReviewSettings(), by_group=True)
    sides = [{of_unit[image.image_id] for image in half} for half in (first, second)]
    assert len(first) + len(second) == 60
    assert not sides[0] & sides[1]
    few = [replace(image, group="one") for image in images]
    assert set(units(few, "auto")) == set(units(few, "auto").values())


def good_when_sure(name: str) -> float:
    """Above a score of 0.6 every mask is good, below it most are not."""
    return 0.9 if score(name) > 0.6 else 0.4 * score(name)


@pytest.fixture
def accepting(simulation: Simulate) -> "Simulation":
    """A run whose people have seen everything and found a good threshold."""
    made = simulation(500, accept=True, audit_share=0.3)
    made.correct(made.predictions(), good_when_sure)
    report = made.calibrate()
    acceptance = report.study.calibration.acceptance
    assert acceptance is not None
    assert acceptance.bound <= 0.05
    assert report.study.search is not None
    assert report.study.search.sample == "all"
    return made


def test_accepted_images_are_withheld_and_written_down(accepting: "Simulation") -> None:
    sent, session = accepting.publish()
    withheld = {Path(row.image).name for row in accepting.predictions()} - set(sent)
    assert session.withheld == len(withheld) > 50
    assert all(score(name) > 0.55 for name in withheld)
    accepted = AcceptedTable(accepting.open().store).keys()
    names = {row.key: row for row in accepting.predictions()}
    assert {Path(names[key].image).name for key in accepted} == withheld
    for key in accepted:
        assert not drawn("audit", names[key].image_id, 0.3)
        assert not drawn("blank", names[key].image_id, 0.05)
    assert accepting.publish()[0] == sent


def test_audited_images_come_first(accepting: "Simulation") -> None:
    _, session = accepting.publish()
    audited = [row for row in accepting.predictions() if drawn("audit", row.image_id, 0.3)]
    assert len(audited) > 100
    assert {session.score([row]) for row in audited} == {0.0}


def test_the_rule_turns_itself_off_when_the_audit_contradicts_it(accepting: "Simulation") -> None:
    accepting.publish()
    audited = [row for row in accepting.predictions() if drawn("audit", row.image_id, 0.3)]
    accepting.correct(audited, lambda _: 0.5, at=datetime.now(UTC))
    sent, session = accepting.publish()
    assert len(sent) == 500
    assert session.withheld == 0
    assert "contradicts calibration 1" in accepting.said[-1]
    opened = accepting.open()
    assert AcceptedTable(opened.store).keys() == set()
    shelf = CalibrationShelf(opened.store)
    calibration = shelf.latest(opened.model.version)
    assert calibration is not None
    stopped = shelf.stopped(calibration)
    assert stopped is not None
    assert stopped.wrong == stopped.images > 10


def test_masks_that_were_rejected_in_the_audit_turn_the_rule_off(accepting: "Simulation") -> None:
    rows = CorrectionTable(accepting.open().store).latest()
    wrong = [
        replace(row, verdict="skipped", choice="wrong", updated_at=datetime.now(UTC))
        for row in rows
        if drawn("audit", row.image_id, 0.3)
    ]
    CorrectionTable(accepting.open().store).append(wrong)
    sent, _ = accepting.publish()
    assert len(sent) == 500
    assert "contradicts calibration 1" in accepting.said[-1]


def test_an_audit_that_agrees_leaves_it_on(accepting: "Simulation") -> None:
    sent, _ = accepting.publish()
    audited = [row for row in accepting.predictions() if drawn("audit", row.image_id, 0.3)]
    accepting.correct(audited, good_when_sure, at=datetime.now(UTC))
    assert accepting.publish()[0] == sent


def test_another_bar_needs_another_calibration(accepting: "Simulation") -> None:
    accepting.review["accept_iou"] = 0.85
    sent, _ = accepting.publish()
    assert len(sent) == 500
    assert "made for another iou" in accepting.said[-1]


def test_only_the_audit_bounds_when_people_have_not_seen_everything(simulation: Simulate) -> None:
    made = simulation(300, accept=True, audit_share=0.3)
    rows = [row for row in made.predictions() if score(Path(row.image).name) < 0.9]
    made.correct(rows, good_when_sure)
    search = made.calibrate().study.search
    assert search is not None
    assert search.sample == "audit"
    assert search.images == sum(drawn("audit", row.image_id, 0.3) for row in rows)


def test_blank_images_are_compared_and_fit_nothing(simulation: Simulate) -> None:
    made = simulation(300, blank_share=0.3)

    def arm(row: Prediction) -> Arm:
        return "blank" if drawn("blank", row.image_id, 0.3) else "shown"

    rows = made.predictions()
    made.correct([row for row in rows if arm(row) == "shown"], overconfident, arm=arm)
    made.correct(
        [row for row in rows if arm(row) == "blank"], lambda name: overconfident(name) / 2, arm=arm
    )
    found = made.calibrate().study
    assert found.calibration.corrections == sum(arm(row) == "shown" for row in rows)
    assert found.arms.saved == pytest.approx(0.75)
    assert found.arms.iou_gap_adjusted == pytest.approx(0.375 / 2, abs=0.04)
    assert found.arms.iou_gap_adjusted_ci is not None
    assert found.arms.iou_gap_adjusted_ci[0] > 0.1
    assert found.blank is not None
    assert found.blank.bias == pytest.approx(found.arms.iou_gap_adjusted, abs=0.03)


def test_the_command_prints_one_object_and_writes_a_document_without_code(
    simulation: Simulate, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = simulation(120)
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(made.run_file().model_dump(mode="json")))
    assert run(["calibrate", str(path), "--json"]) == 1
    assert "0 corrections" in capfd.readouterr().err
    made.correct(made.predictions(), overconfident)
    assert run(["calibrate", str(path), "--json"]) == 0
    printed = json.loads(capfd.readouterr().out)
    assert printed["calibration"] == 1
    document = json.loads((tmp_path / "store/review/calibration/000001.json").read_text())
    assert document["model_version"] == printed["model_version"]
    assert run(["calibrate", str(path)]) == 0
    text = capfd.readouterr().out
    assert "calibration 2 of model" in text
    assert "held out (images)" in text


def test_a_foreign_document_is_named(simulation: Simulate) -> None:
    made = simulation(3)
    opened = made.open()
    opened.store.put("review/calibration/000001.json", b'{"format": 2}')
    with pytest.raises(StorageError, match=r"000001\.json: is not a calibration"):
        made.publish()


def test_other_wordings_are_asked_of_a_share_and_count_in_the_score(simulation: Simulate) -> None:
    made = simulation(100, reword_share=0.4, blank_share=0)
    opened = made.open()
    assert 20 < len(opened.plan.rewordings) < 60
    assert len(opened.plan.keys) == 100
    sent, session = made.publish()
    assert len(sent) == 100
    reworded = set(opened.plan.rewordings.values())
    for row in made.predictions():
        power = 4 / 5 if row.key in reworded else 1.0
        wanted = score(Path(row.image).name) ** power
        assert session.score([row]) == pytest.approx(wanted)
