"""Photographs with a class for each pixel: what is read, and what is refused with which words."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from benchmarks.camvid.photos import Photo, PhotoSet, group_frames, read_photos
from pipeline.errors import InputError

if TYPE_CHECKING:
    from tests.benchmarks.conftest import WriteSet


def test_runs_of_consecutive_frames_are_groups_and_a_gap_or_another_drive_begins_a_new_one() -> (
    None
):
    names = [f"a_{number:05d}" for number in (0, 30, 60, 90, 120, 240, 270)] + ["b_f00300"]
    assert group_frames(names, length=3) == {
        **dict.fromkeys(names[:3], "a_00000"),
        **dict.fromkeys(names[3:5], "a_00090"),
        **dict.fromkeys(names[5:7], "a_00240"),
        "b_f00300": "b_f00300",
    }


def _one(folder: Path, labels: list[list[int]], least_pixels: int) -> tuple[PhotoSet, Photo]:
    path = folder / "labels.png"
    Image.fromarray(np.array(labels, np.uint8)).save(path)
    photo = Photo("a", folder / "a.png", path, "a")
    return PhotoSet(folder, ("road", "sky"), 7, least_pixels, (photo,)), photo


def test_a_class_with_too_few_pixels_is_absent_and_void_is_not_counted(tmp_path: Path) -> None:
    photos, photo = _one(tmp_path, [[0, 0, 0], [1, 1, 7]], 3)
    truth = photos.truth(photo)
    assert truth.masks["road"].tolist() == [[True] * 3, [False] * 3]
    assert (truth.present("road"), truth.present("sky")) == (True, False)
    assert not truth.masks["sky"].any()
    assert truth.counted.tolist() == [[True] * 3, [True, True, False]]


def test_an_index_without_a_class_is_refused_by_file(tmp_path: Path) -> None:
    photos, photo = _one(tmp_path, [[0, 4]], 1)
    with pytest.raises(InputError, match=r"labels\.png: index 4 is no class"):
        photos.truth(photo)


def test_a_folder_is_read_with_the_classes_above_it(write_set: "WriteSet") -> None:
    photos = read_photos(write_set("train", 3), 1)
    assert photos.classes == ("ground", "thing", "hole")
    assert [photo.name for photo in photos.photos] == ["a_1", "b_1", "c_1"]
    assert {photo.group for photo in photos.photos} == {"a_1", "b_1", "c_1"}
    sample = photos.sample(2, seed=1)
    assert len(sample.photos) == 2
    assert sample == photos.sample(2, seed=1)


def test_what_is_missing_is_named(write_set: "WriteSet") -> None:
    folder = write_set("train", 2)
    (folder / "labels" / "b_1.png").unlink()
    with pytest.raises(InputError, match=r"labels: has no labels of b_1\.png"):
        read_photos(folder, 1)
    (folder.parent / "classes.json").write_text(json.dumps({"classes": ["a"]}))
    with pytest.raises(InputError, match=r"classes\.json: must hold 'classes' and 'void'"):
        read_photos(folder, 1)
    (folder.parent / "classes.json").unlink()
    with pytest.raises(InputError, match=r"no classes\.json"):
        read_photos(folder, 1)
