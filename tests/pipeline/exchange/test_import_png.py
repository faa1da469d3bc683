"""PNG masks come in: those of an export, a folder for each label, and index images."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline import masks
from pipeline.errors import InputError
from pipeline.import_masks import ImportSummary
from tests.pipeline.exchange.conftest import HEIGHT, WIDTH, Street, rectangle

ROAD, SKY, CAR = rectangle(15, 0, 30, 40), rectangle(0, 0, 10, 40), rectangle(12, 5, 20, 12)


def save(street: Street, name: str, pixels: np.ndarray) -> Path:
    """Write a PNG and return its path."""
    path = street.folder / "pngs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def bring(street: Street, **changes: Any) -> ImportSummary:
    """Import the folder."""
    return street.bring(street.folder / "pngs", fmt="png", **changes)


def test_a_folder_for_each_label(street: Street) -> None:
    save(street, "road/a/one.png", ROAD)
    save(street, "sky/a/one.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    save(street, "truck/a/two.png", CAR.astype(np.uint8))
    summary = bring(street, labels={"truck": "car"})
    assert (summary.present, summary.absent) == (2, 1)
    np.testing.assert_array_equal(masks.decode(street.corrections()["a/two.png", "car"].mask), CAR)


def test_an_empty_mask_of_one_of_two_joined_folders_says_nothing(street: Street) -> None:
    save(street, "car/a/one.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    save(street, "truck/a/two.png", CAR.astype(np.uint8))
    summary = bring(street, labels={"truck": "car"})
    assert (summary.present, summary.absent) == (1, 0)


def test_index_images_with_labels_by_number(street: Street) -> None:
    index = np.where(ROAD, 7, np.where(SKY, 21, 255)).astype(np.uint8)
    save(street, "a/one.png", index)
    summary = bring(street, labels={"7": "road", "21": "sky", "3": "car"})
    assert (summary.present, summary.absent) == (2, 0)
    found = street.corrections()
    np.testing.assert_array_equal(masks.decode(found["a/one.png", "road"].mask), ROAD)
    np.testing.assert_array_equal(masks.decode(found["a/one.png", "sky"].mask), SKY)


@pytest.mark.parametrize(
    ("pixels", "told"),
    [
        (np.arange(WIDTH * HEIGHT, dtype=np.uint8).reshape(HEIGHT, WIDTH), "no binary mask"),
        (np.zeros((HEIGHT, WIDTH, 3), np.uint8), "pixels of type RGB"),
        (np.zeros((WIDTH, HEIGHT), np.uint8), "is 30x40 pixels in the source"),
    ],
)
def test_pngs_that_are_no_masks(street: Street, pixels: np.ndarray, told: str) -> None:
    save(street, "road/a/one.png", pixels)
    with pytest.raises(InputError, match=told):
        bring(street)


@pytest.mark.parametrize(
    ("side", "told"), [(10_000, "is 10000x10000 pixels in the source"), (60_000, "decompression")]
)
def test_a_huge_header_is_not_decoded(street: Street, side: int, told: str) -> None:
    path = save(street, "road/a/one.png", ROAD)
    data = bytearray(path.read_bytes())
    data[16:24] = side.to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match=told):
        bring(street)


def test_a_folder_without_pngs(street: Street) -> None:
    (street.folder / "pngs").mkdir()
    with pytest.raises(InputError, match="holds no masks"):
        bring(street)


def test_an_export_of_another_format(street: Street) -> None:
    street.predict({("a/one.png", "road"): ROAD})
    street.export("coco", out=street.folder / "pngs")
    with pytest.raises(InputError, match="export of format coco, not png"):
        bring(street)
