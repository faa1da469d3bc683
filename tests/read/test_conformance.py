"""The harness: it passes on the recorded numbers and lets nothing wrong, missing or new through."""

import json
from pathlib import Path

import numpy as np
import pytest

from workers.read.conformance import CaseResult, report, run_conformance, table
from workers.read.conformance.cases import (
    EXACT,
    TENSOR,
    MaskBits,
    Tolerance,
    Values,
    compare,
    failure,
)
from workers.read.errors import ReadError


def only(recorded: dict, computed: dict, **options: list[str]) -> CaseResult:
    """The one result of comparing."""
    (result,) = compare("case", "kind", recorded, computed, **options)
    return result


def test_a_difference_within_the_tolerance_is_ok_and_beyond_is_not() -> None:
    recorded = {"x": np.array([1.0, 100.0])}
    near = only(recorded, {"x": Values([1.0001, 100.001])})
    far = only(recorded, {"x": Values([1.0003, 100.0])})
    assert near.ok
    assert not far.ok
    assert far.max_abs == pytest.approx(3e-4)
    assert far.tolerance == pytest.approx(2e-4)


def test_recorded_integers_have_to_be_equal() -> None:
    assert only({"x": np.array([3])}, {"x": Values([3])}).ok
    assert not only({"x": np.array([3])}, {"x": Values([4], tolerance=Tolerance(10))}).ok


def test_strided_recordings_skip_elements() -> None:
    full = np.arange(24.0).reshape(2, 12)
    assert only({"x_s4": full[:, ::4]}, {"x": Values(full, strided=(1,))}).ok
    assert not only({"x_s4": full[:, 1::4]}, {"x": Values(full, strided=(1,))}).ok
    assert only({"x_s4_0": full[:, ::4]}, {"x_0": Values(full, strided=(1,))}).ok


@pytest.mark.parametrize(
    ("recorded", "computed", "reason"),
    [
        ({"x": np.zeros(2)}, {}, "x (nothing computed to compare it with)"),
        ({}, {"x": Values([0.0])}, "x (not recorded)"),
        ({"x": np.zeros(2)}, {"x": Values([0.0])}, "x (other shape, or NaN)"),
        ({"x": np.zeros(1)}, {"x": Values([float("nan")])}, "x (other shape, or NaN)"),
    ],
)
def test_what_cannot_be_compared_is_a_failure(recorded: dict, computed: dict, reason: str) -> None:
    assert only(recorded, computed) == failure("case", "kind", reason, 1e-4 * ("NaN" in reason))


def test_arrays_are_left_out_only_by_name() -> None:
    assert list(compare("case", "kind", {"x": np.zeros(1)}, {}, left_out=["x"])) == []


def test_mask_pixels_may_differ_only_near_zero() -> None:
    recorded = {"mask": np.packbits(np.array([1, 1, 0, 0], dtype=bool))}
    assert only(recorded, {"mask": MaskBits(np.array([2.0, -5e-4, 5e-4, -2.0]))}).ok
    wrong = only(recorded, {"mask": MaskBits(np.array([2.0, -0.1, 0.1, -2.0]))})
    assert (wrong.max_abs, wrong.ok) == (2, False)


def test_the_table_names_the_case_that_is_over() -> None:
    good = CaseResult("a", "kind", "x", 0.0, 1e-4, ok=True)
    lines = table([good, failure("b", "kind", "x")])
    assert len(lines) == 2
    assert lines[1].endswith("OVER in b")
    assert report([good])["cases"][0]["array"] == "x"


def test_tolerances_are_those_of_the_model_page() -> None:
    assert TENSOR.bounds(np.array([-2.0])) == pytest.approx(3e-4)
    assert EXACT.bounds(np.array([5.0])) == 0


def test_a_folder_without_cases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="no list of recorded cases"):
        run_conformance(tmp_path)
    (tmp_path / "manifest.json").write_text('{"files": {}}')
    with pytest.raises(ReadError, match="lists no case"):
        run_conformance(tmp_path)


@pytest.fixture
def recorded(shared: Path, tmp_path: Path) -> Path:
    """A folder with the recorded arrays, whose manifest a test may change."""
    source = shared / "goldens" / "read"
    for part in ("checkpoint", "clip", "goldens"):
        (tmp_path / part).symlink_to(source / part)
    (tmp_path / "manifest.json").write_bytes((source / "manifest.json").read_bytes())
    return tmp_path


def rewrite(folder: Path, **parts: object) -> None:
    """Replace parts of the manifest."""
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **parts}))


def test_recorded_cases_pass(recorded: Path) -> None:
    kinds = ["preprocess", "preprocess_odd", "tokenizer", "sasp", "static"]
    results = run_conformance(recorded, kinds)
    assert [result for result in results if not result.ok] == []
    assert {result.kind for result in results} == set(kinds)


def test_an_answer_and_its_mask_pass_through_every_tensor(recorded: Path) -> None:
    cases = json.loads((recorded / "manifest.json").read_text())["cases"]
    rewrite(recorded, cases=[case for case in cases if case["case"] == "p06_small"], files={})
    results = run_conformance(recorded, ["evaluate"])
    assert [result for result in results if not result.ok] == []
    assert {"output_ids", "points", "mask_packed"} <= {result.array for result in results}


def test_training_and_validation_pass_through_losses_and_gradients(recorded: Path) -> None:
    cases = json.loads((recorded / "manifest.json").read_text())["train"]
    chosen = [case for case in cases if case["case"] == "t3_text_only_second"]
    rewrite(recorded, train=chosen, files={})
    results = run_conformance(recorded, ["train", "val"])
    assert [result for result in results if not result.ok] == []
    assert {"loss_loss", "grad_norms", "pred_mask_packed"} <= {result.array for result in results}


def test_a_listed_file_that_no_case_tells_about_is_a_failure(recorded: Path) -> None:
    rewrite(recorded, cases=[], files={"eval_x.npz": {"kind": "evaluate"}})
    (result,) = run_conformance(recorded, ["evaluate"])
    assert not result.ok
    assert result.name == "eval_x.npz"
    assert result.array.startswith("(not run: ")


@pytest.mark.parametrize(
    ("part", "kind", "case"),
    [
        ("cases", "evaluate", "p06_small"),
        ("train", "train", "t4_no_seg_at_all"),
        ("val", "val", "val_v1"),
        ("sasp", "sasp", "r04_v7b"),
    ],
)
def test_a_new_key_of_a_case_is_a_failure(recorded: Path, part: str, kind: str, case: str) -> None:
    entries = json.loads((recorded / "manifest.json").read_text())[part]
    (chosen,) = (entry for entry in entries if case in (entry.get("case"), entry.get("key")))
    files = {"sasp.npz": {"kind": "sasp"}} if kind == "sasp" else {}
    rewrite(recorded, **{part: [chosen | {"a_new_key": 1.5}]}, files=files)
    results = [result for result in run_conformance(recorded, [kind]) if result.name == case]
    (failed,) = (result for result in results if not result.ok)
    assert failed.array == "manifest.a_new_key (nothing computed to compare it with)"


def test_a_file_is_what_the_manifest_says(recorded: Path) -> None:
    files = json.loads((recorded / "manifest.json").read_text())["files"]
    name = "pre_land_480x640.npz"
    whole = {"orig_hw": [[2], "int32"]}
    told = files[name] | {"arrays": whole, "sam_mask_shape": [[768, 1024], [480, 641]], "new": 0}
    rewrite(recorded, files={name: told})
    failed = [result for result in run_conformance(recorded, ["preprocess"]) if not result.ok]
    assert {(one.name, one.array) for one in failed} == {
        (name, "manifest.arrays"),
        (name, "manifest.sam_mask_shape"),
        (name, "manifest.new (nothing computed to compare it with)"),
    }


def test_every_number_that_a_manifest_records_is_compared(recorded: Path) -> None:
    manifest = json.loads((recorded / "manifest.json").read_text())
    (chosen,) = (case for case in manifest["cases"] if case["case"] == "p06_small")
    wrong = {
        "raw_prompt": "no",
        "orig_hw": [1, 1],
        "sam_hw": [1, 1],
        "min_gen_margin": chosen["min_gen_margin"] + 0.1,
        "object_presence": [False],
        "mask_pos_frac": chosen["mask_pos_frac"] + 0.01,
        "frac_abs_logit_lt_1e-3": chosen["frac_abs_logit_lt_1e-3"] + 0.01,
        "label_counts": chosen["label_counts"] | {"pos": 99},
    }
    rewrite(recorded, cases=[chosen | wrong], files={})
    failed = [result for result in run_conformance(recorded, ["evaluate"]) if not result.ok]
    assert {one.array for one in failed} == {f"manifest.{key}" for key in wrong}


def test_gradients_without_points_are_told_from_those_with(recorded: Path) -> None:
    entries = json.loads((recorded / "manifest.json").read_text())["train"]
    (case,) = (entry for entry in entries if entry["case"] == "t1_all_seg")
    detached = "grad_norm_groups_mask_loss_points_detached"
    through_points = case["grad_norm_groups_mask_loss_only"]
    assert case[detached] != through_points
    rewrite(recorded, train=[case], files={})
    assert all(result.ok for result in run_conformance(recorded, ["train"]))
    rewrite(recorded, train=[case | {detached: through_points}])
    failed = [result for result in run_conformance(recorded, ["train"]) if not result.ok]
    assert [result.array for result in failed] == [detached]


def test_a_case_that_another_one_hides_or_that_lacks_its_name_is_a_failure(recorded: Path) -> None:
    (case,) = json.loads((recorded / "manifest.json").read_text())["val"]
    rewrite(recorded, val=[case, case], files={})
    failed = [result for result in run_conformance(recorded, ["val"]) if not result.ok]
    assert [result.array for result in failed] == ["(not run: another case has the same name)"]
    rewrite(recorded, val=[{"file": case["file"]}])
    (failed,) = run_conformance(recorded, ["val"])
    assert failed.array == "(not run: KeyError 'case')"


def test_what_is_not_compared_is_named_with_its_reason() -> None:
    reasons = report([])["not_compared"]
    assert {"files", "evaluate", "train", "val", "sasp"} == reasons.keys()
    assert all(text for told in reasons.values() for text in told.values())


def test_a_kind_that_nobody_knows_is_a_failure(recorded: Path) -> None:
    files = {"other.npz": {"kind": "other"}, "bare.npz": {}}
    rewrite(recorded, files=files, cases=[], train=[], sasp=[], val=[], more=[{"case": "x"}])
    results = run_conformance(recorded)
    assert {(result.name, result.kind) for result in results} == {
        ("other.npz", "other"),
        ("bare.npz", "none"),
        ("more", "more"),
    }
    assert not any(result.ok for result in results)


def test_what_the_original_could_not_train_trains(recorded: Path) -> None:
    cases = json.loads((recorded / "manifest.json").read_text())["train"]
    names = ["t2_mixed_misaligned", "t5_two_seg_row"]
    rewrite(recorded, train=[case for case in cases if case["case"] in names], files={})
    results = run_conformance(recorded, ["train"])
    assert [result for result in results if not result.ok] == []
    assert {result.name for result in results} == set(names)
    assert "weights without gradient" in {result.array for result in results}
    assert "loss_ce_loss" in {result.array for result in results}


def test_every_form_of_the_weights_is_the_same_and_a_change_is_seen(
    goldens: Path, recorded: Path
) -> None:
    (recorded / "clip_full").symlink_to(goldens / "clip_full")
    keys = json.loads((goldens / "checkpoint_keys.json").read_text())
    (recorded / "checkpoint_keys.json").write_text(json.dumps(keys))
    same = run_conformance(recorded, ["checkpoint"])
    assert [(result.name, result.ok) for result in same] == [
        ("checkpoint_keys.json", True),
        ("clip_full", True),
    ]
    keys["lm_head.weight"][0][0] += 1
    (recorded / "checkpoint_keys.json").write_text(json.dumps(keys))
    assert run_conformance(recorded, ["checkpoint"])[0].max_abs == 1


def test_a_missing_recording_is_a_failure_and_a_kind_left_out_is_told(recorded: Path) -> None:
    told: list[str] = []
    file = {"kind": "preprocess", "image": "images/land_480x640.png"}
    rewrite(recorded, files={"pre_gone.npz": file, "other.npz": {"kind": "other"}})
    (result,) = run_conformance(recorded, ["preprocess"], progress=told.append)
    assert not result.ok
    assert told == ["left out: 1 of kind other", "preprocess pre_gone.npz"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02K\x05."])
def test_a_damaged_recording_is_a_failure_of_its_case(recorded: Path, content: bytes) -> None:
    goldens = recorded / "goldens"
    source = goldens.readlink()
    goldens.unlink()
    goldens.mkdir()
    for entry in source.iterdir():
        (goldens / entry.name).symlink_to(entry)
    path = goldens / "pre_land_480x640.npz"
    path.unlink()
    path.write_bytes(content)
    results = run_conformance(recorded, ["preprocess"])
    failed = {result.name for result in results if not result.ok}
    assert failed == {path.name, "files"}
    assert len({result.name for result in results}) > 1
