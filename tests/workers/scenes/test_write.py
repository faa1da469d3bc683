"""Scenes as files."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workers.scenes import HARD, describe, render, write_scenes


def rows(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_query_has_a_row_with_its_picture_and_mask(tmp_path: Path) -> None:
    manifest = write_scenes(31, 3, tmp_path)
    found = rows(manifest)
    scenes = [render(31, index) for index in range(3)]
    assert [row["query"] for row in found] == [q.text for s in scenes for q in s.queries]
    assert len({row["id"] for row in found}) == len(found)
    assert len({row["group"] for row in found}) == 3
    assert len({(row["image"], row["label"]) for row in found}) == len(found)


def test_pictures_and_masks_are_those_of_the_scene(tmp_path: Path) -> None:
    found = rows(write_scenes(32, 1, tmp_path))
    scene = render(32, 0)
    assert np.array_equal(np.asarray(Image.open(tmp_path / found[0]["image"])), scene.image)
    truths = rows(tmp_path / "truth.csv")
    assert [row["id"] for row in truths] == [row["id"] for row in found]
    for row, query in zip(truths, scene.queries, strict=True):
        mask = np.asarray(Image.open(tmp_path / row["mask"]))
        assert np.array_equal(mask, np.where(scene.mask(query), 255, 0))
        assert row["present"] == str(bool(mask.any())).lower()
        assert row["denial"] == query.denial


@pytest.mark.parametrize("count", [5, 10])
def test_a_quarter_of_what_hard_scenes_ask_for_is_absent_however_few(
    count: int, tmp_path: Path
) -> None:
    small = replace(HARD, long_side=(96, 96))
    too_few = 0
    for seed in range(6):
        drawn = [query for index in range(count) for query in describe(seed, index, small)[2]]
        too_few += 4 * sum(not query.present for query in drawn) < len(drawn)
        out = tmp_path / str(seed)
        asked = [
            (row["group"], row["query"]) for row in rows(write_scenes(seed, count, out, small))
        ]
        assert len(set(asked)) == len(asked) >= len(drawn)
        truths = rows(out / "truth.csv")
        absent = [row for row in truths if row["present"] == "false"]
        assert 4 * len(absent) >= len(truths)
        for row in absent:
            assert not np.asarray(Image.open(out / row["mask"])).any()
            assert row["denial"]
    assert too_few


def test_pictures_can_be_jpeg(tmp_path: Path) -> None:
    found = rows(write_scenes(33, 1, tmp_path, image_format="jpg"))
    with Image.open(tmp_path / found[0]["image"]) as image:
        assert image.format == "JPEG"


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    first = write_scenes(34, 2, tmp_path / "a")
    second = write_scenes(34, 2, tmp_path / "b")
    names = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert first.read_bytes() == second.read_bytes()
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_no_scenes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        write_scenes(1, 0, tmp_path)
