"""What is exported and what is left out; exclusive labels; a folder that is whole or not there."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from pipeline.cli import run
from pipeline.config import RunFile
from pipeline.errors import ConfigError, InputError, StoppedError, StorageError
from tests.pipeline.exchange.conftest import HEIGHT, WIDTH, Street, rectangle

ROAD, SKY, CAR = rectangle(10, 0, 30, 40), rectangle(0, 0, 14, 40), rectangle(12, 5, 20, 12)


def masks_of(street: Street) -> dict[tuple[str, str], np.ndarray]:
    coco = COCO(str(street.out / "annotations.json"))
    names = {row["id"]: row["name"] for row in coco.dataset["categories"]}
    files = {row["id"]: row["file_name"] for row in coco.dataset["images"]}
    return {
        (files[row["image_id"]], names[row["category_id"]]): coco.annToMask(row).astype(np.bool_)
        for row in coco.dataset["annotations"]
    }


def test_the_surer_of_two_exclusive_masks_keeps_its_pixels(street: Street) -> None:
    run = street.change(exclusive=[["sky", "road"]])
    run.predict(
        {("a/one.png", "road"): ROAD, ("a/one.png", "sky"): SKY, ("a/one.png", "car"): CAR},
        {"road": 0.6, "sky": 0.9, "car": 0.1},
    )
    told = run.export("coco")["overlaps"]
    found = masks_of(street)
    np.testing.assert_array_equal(found["a/one.png", "sky"], SKY)
    np.testing.assert_array_equal(found["a/one.png", "road"], ROAD & ~SKY)
    np.testing.assert_array_equal(found["a/one.png", "car"], CAR)
    assert told == {"images": 1, "masks": 1, "pixels": 160, "emptied": 0}


def test_of_corrections_the_drawn_one_wins_then_the_smaller(street: Street) -> None:
    run = street.change(exclusive=[["road", "sky", "car"]])
    run.correct({("a/one.png", "road"): ROAD, ("a/one.png", "car"): CAR})
    run.correct({("a/one.png", "sky"): SKY}, verdict="accepted")
    told = run.export("coco", "corrections")["overlaps"]
    found = masks_of(street)
    np.testing.assert_array_equal(found["a/one.png", "car"], CAR)
    np.testing.assert_array_equal(found["a/one.png", "road"], ROAD & ~CAR)
    np.testing.assert_array_equal(found["a/one.png", "sky"], SKY & ~CAR & ~ROAD)
    assert told["masks"] == 2


def test_a_mask_that_loses_all_is_counted_and_is_no_absence(street: Street) -> None:
    run = street.change(exclusive=[["road", "car"]])
    run.predict({("a/one.png", "road"): ROAD, ("a/one.png", "car"): CAR}, {"road": 1, "car": 0})
    told = run.export("coco")
    assert told["overlaps"]["emptied"] == 1
    assert (told["present"], told["absent"], told["unknown"], told["masks"]) == (1, 0, 2, 1)
    assert list(masks_of(street)) == [("a/one.png", "road")]
    (image,) = COCO(str(street.out / "annotations.json")).dataset["images"]
    assert image["neg_category_ids"] == []


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        ([["road", "road"]], "names 'road' twice"),
        ([["road", "sky"], ["car", "road"]], "names 'road' twice"),
        ([["road"]], "at least 2 items"),
    ],
)
def test_groups_that_make_no_sense_are_refused(
    street: Street, groups: list[list[str]], told: str
) -> None:
    content = street.run.model_dump() | {"exclusive": groups}
    with pytest.raises(ValueError, match=told):
        RunFile.model_validate(content)


def test_an_exclusive_label_that_nobody_asks_for_is_named(street: Street) -> None:
    run = street.change(exclusive=[["road", "lake"]])
    with pytest.raises(ConfigError, match=r"'lake' is no label of .*'road', 'sky', 'car'"):
        run.export("coco")


def test_corrections_that_say_nothing_about_what_is_asked_are_counted(street: Street) -> None:
    street.correct({("a/one.png", "road"): ROAD})
    street.correct({("a/one.png", "sky"): SKY}, query="the night sky")
    street.correct({("a/one.png", "car"): CAR}, verdict="skipped")
    street.correct({("a/two.png", "road"): ROAD}, verdict="deleted")
    street.correct({("a/two.png", "sky"): SKY}, etag="before")
    street.correct({("a/two.png", "car"): CAR}, verdict="skipped", choice="wrong")
    street.correct({("b/one.png", "car"): None})
    manifest = street.export("coco", "corrections")
    assert list(masks_of(street)) == [("a/one.png", "road")]
    assert manifest["left_out"] == {
        "unanswered_images": 1,
        "incomplete_images": 0,
        "skipped": 1,
        "deleted": 1,
        "outdated": 2,
        "rejected": 1,
    }
    assert (manifest["images"], manifest["present"], manifest["absent"]) == (2, 1, 1)
    assert manifest["table_version"] == 7


def test_a_mask_that_was_called_wrong_and_repaired_is_exported(street: Street) -> None:
    street.correct({("a/one.png", "road"): ROAD}, choice="wrong")
    manifest = street.export("coco", "corrections")
    np.testing.assert_array_equal(masks_of(street)["a/one.png", "road"], ROAD)
    assert manifest["left_out"]["rejected"] == 0


def test_the_latest_correction_is_exported(street: Street) -> None:
    street.correct({("a/one.png", "road"): ROAD}, minute=1)
    street.correct({("a/one.png", "road"): CAR}, minute=2)
    street.export("coco", "corrections")
    np.testing.assert_array_equal(masks_of(street)["a/one.png", "road"], CAR)


def test_a_correction_that_was_deleted_later_is_not_exported(street: Street) -> None:
    street.correct({("a/one.png", "road"): ROAD, ("a/two.png", "road"): ROAD}, minute=1)
    street.correct({("a/one.png", "road"): ROAD}, minute=2, verdict="deleted")
    assert street.export("coco", "corrections")["left_out"]["deleted"] == 1
    assert list(masks_of(street)) == [("a/two.png", "road")]


def test_predictions_of_another_image_content_are_not_exported(street: Street) -> None:
    street.predict({("a/one.png", "road"): ROAD, ("a/two.png", "road"): ROAD})
    os.utime(street.photos / "a" / "one.png", (1, 1))
    street.export("coco")
    assert list(masks_of(street)) == [("a/two.png", "road")]


def test_only_complete_images_on_request(street: Street) -> None:
    street.predict({("a/one.png", label): ROAD for label in ("road", "sky", "car")})
    street.predict({("a/two.png", "road"): ROAD})
    manifest = street.export("coco", complete=True)
    assert (manifest["images"], manifest["partial_images"]) == (1, 0)
    assert manifest["left_out"]["incomplete_images"] == 1


@pytest.mark.parametrize("what", ["predictions", "corrections"])
def test_nothing_to_export_is_an_error_and_leaves_nothing(street: Street, what: str) -> None:
    with pytest.raises(InputError, match=f"no {what}.* for what run street asks"):
        street.export("coco", what)
    assert not list(street.folder.glob("*out*"))


def test_a_folder_with_something_else_is_never_touched(street: Street) -> None:
    street.predict({("a/one.png", "road"): ROAD})
    street.out.mkdir()
    (street.out / "thesis.tex").write_text("x")
    for again in (False, True):
        with pytest.raises(InputError, match="is no export; choose another"):
            street.export("coco", replace=again)
    assert (street.out / "thesis.tex").read_text() == "x"


def test_an_earlier_export_is_replaced_on_request_only(street: Street) -> None:
    street.predict({("a/one.png", "road"): ROAD})
    street.export("png")
    with pytest.raises(InputError, match="--replace"):
        street.export("coco")
    street.export("coco", replace=True)
    assert {path.name for path in street.out.iterdir()} == {"annotations.json", "export.json"}
    assert not list(street.folder.glob(".out*"))


def test_a_stop_leaves_the_earlier_export(street: Street) -> None:
    street.predict({("a/one.png", "road"): ROAD})
    before = street.export("coco")
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        street.export("png", replace=True, stop=stop)
    assert (street.out / "annotations.json").exists()
    assert before["format"] == "coco"
    assert not list(street.folder.glob(".out*"))


def test_a_missing_image_leaves_nothing_half_copied(street: Street) -> None:
    street.correct({("a/one.png", "road"): ROAD, ("a/two.png", "road"): ROAD})
    limited = street.change(limits={"image_bytes": 10})
    with pytest.raises(StorageError, match="more than the limit"):
        limited.export("coco", "corrections", images=True)
    assert not list(street.folder.glob("*out*"))


KILLED = """
import sys
from pipeline.exchange import coco
def stuck(self):
    print("closing", flush=True)
    sys.stdin.read()
coco.CocoWriter.close = stuck
from pipeline.cli import run
run(["export", sys.argv[1], "--what", "predictions", "--format", "coco", "--out", sys.argv[2]])
"""


def test_a_killed_export_leaves_nothing_that_looks_done(street: Street) -> None:
    street.predict({("a/one.png", "road"): ROAD})
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, street.run_file(), str(street.out)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=street.folder,
    )
    _wait_for(street.folder, ".out.*.part/annotations.annotations")
    street.export("png", out=street.out)  # the other one still runs: it is left alone
    assert list(street.folder.glob(".out.*.part"))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    street.export("coco", replace=True)
    assert not list(street.folder.glob(".out.*"))


def test_an_export_that_a_killed_one_had_moved_aside_comes_back(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    street.predict({("a/one.png", "road"): ROAD})
    street.export("coco")
    before = (street.out / "export.json").read_bytes()
    aside = street.folder / ".out.killed.part"
    aside.mkdir()
    street.out.rename(aside / "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipeline.exchange.coco.CocoWriter.close", full)
    _fails_and_leaves(street, before, "No space left")


@pytest.mark.parametrize(
    ("name", "other"), [("truth", "truth.v2"), ("trut[h]", "truth"), ("tr*", "truth")]
)
def test_only_what_an_export_to_the_same_place_left_is_taken(
    street: Street, name: str, other: str
) -> None:
    street.predict({("a/one.png", "road"): ROAD})
    street.export("coco", out=street.folder / other)
    aside = street.folder / f".{other}.killed.part"
    aside.mkdir()
    (street.folder / other).rename(aside / "old")
    left = street.folder / f".{name}.killed.part"
    left.mkdir()
    street.export("coco", out=street.folder / name)
    assert (aside / "old" / "export.json").is_file()
    assert not left.exists()


def test_an_export_that_cannot_be_put_in_place_leaves_the_earlier_one(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    street.predict({("a/one.png", "road"): ROAD})
    street.export("coco")
    before = (street.out / "export.json").read_bytes()
    rename = Path.rename

    def refuses(self: Path, target: Path) -> Path:
        if target == street.out and self.name.endswith(".part"):
            raise OSError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuses)
    _fails_and_leaves(street, before, "Permission denied")


def _fails_and_leaves(street: Street, before: bytes, reason: str) -> None:
    """Fail to replace an export, and find the earlier one and nothing else."""
    with pytest.raises(StorageError, match=reason):
        street.export("coco", replace=True)
    assert (street.out / "export.json").read_bytes() == before
    assert not list(street.folder.glob(".out.*"))


def _wait_for(folder: Path, pattern: str) -> None:
    deadline = time.monotonic() + 60
    while not list(folder.glob(pattern)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_masks_of_another_size_than_the_others_are_outdated(street: Street) -> None:
    (row,) = street.correct({("a/one.png", "road"): ROAD})
    turned = replace(row.mask, height=WIDTH, width=HEIGHT)
    street.correct({("a/one.png", "sky"): SKY}, mask=turned, width=HEIGHT, height=WIDTH)
    manifest = street.export("coco", "corrections")
    assert (manifest["present"], manifest["left_out"]["outdated"]) == (1, 1)


def test_the_command_prints_what_export_json_holds(
    street: Street, capfd: pytest.CaptureFixture[str]
) -> None:
    street.predict({("a/one.png", "road"): ROAD})
    arguments = ["export", street.run_file(), "--what", "predictions", "--out", str(street.out)]
    assert run([*arguments, "--format", "yolo", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == json.loads(
        (street.out / "export.json").read_text()
    )
    assert run([*arguments, "--format", "coco", "--replace"]) == 0
    assert "1 images, 1 masks" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--what", "masks", "--format", "coco"], "--what masks: choose"),
        (["--what", "predictions", "--format", "voc"], "--format voc: choose one of coco"),
        (["--what", "predictions", "--format", "png", "--instances"], "leave --instances out"),
        (["--what", "corrections", "--format", "png", "--version", "x"], "leave it out"),
    ],
)
def test_wrong_arguments_are_named(
    street: Street, capfd: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert run(["export", street.run_file(), *arguments, "--out", str(street.out)]) == 1
    assert told in capfd.readouterr().err
