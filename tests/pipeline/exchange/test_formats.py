"""YOLO, PNG and Parquet exports, read with OpenCV, Pillow and pyarrow."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from pycocotools import mask as coco

from pipeline.errors import ConfigError, InputError
from tests.pipeline.exchange.conftest import HEIGHT, WIDTH, Street, rectangle

ROAD, SKY, CAR = rectangle(15, 0, 30, 40), rectangle(0, 0, 10, 40), rectangle(12, 5, 20, 12)
BOTH = CAR | rectangle(2, 30, 6, 38)


def lines_of(path: Path) -> list[tuple[int, np.ndarray]]:
    """Read a YOLO file as its trainers do: class and corners (N, 2) in pixels."""
    rows = [line.split() for line in path.read_text().splitlines()]
    return [
        (int(row[0]), np.array(row[1:], dtype=np.float64).reshape(-1, 2) * (WIDTH, HEIGHT))
        for row in rows
    ]


def fill(polygon: np.ndarray) -> np.ndarray:
    """Fill a polygon as YOLO's trainers do: corners cut to integers."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    cv2.fillPoly(mask, [polygon.astype(np.int32)], 1)
    return mask.astype(np.bool_)


def test_yolo_lines_are_parts_with_normalized_outlines(street: Street) -> None:
    street.predict({("a/one.png", "car"): BOTH, ("a/two.png", "sky"): None})
    manifest = street.export("yolo", images=True)
    lines = lines_of(street.out / "labels" / "train" / "a" / "one.txt")
    assert [number for number, _ in lines] == [2, 2]
    np.testing.assert_array_equal(fill(lines[0][1]) | fill(lines[1][1]), BOTH)
    assert (street.out / "labels" / "train" / "a" / "two.txt").read_text() == ""
    assert not (street.out / "labels" / "train" / "b").exists()
    data = yaml.safe_load((street.out / "data.yaml").read_text())
    assert data["names"] == {0: "road", 1: "sky", 2: "car"}
    images = sorted(path.name for path in (street.out / data["train"] / "a").iterdir())
    assert images == ["one.png", "two.png"]
    assert (street.out / "classes.txt").read_text().split() == ["road", "sky", "car"]
    assert manifest["polygons"]["iou_least"] == 1.0


def test_yolo_has_a_folder_for_each_split(street: Street) -> None:
    street.predict({("a/one.png", "car"): BOTH})
    street.export("yolo", val_share=0.9)
    data = yaml.safe_load((street.out / "data.yaml").read_text())
    assert (data["train"], data["val"]) == ("images/train", "images/val")
    assert {path.name for path in (street.out / "labels").iterdir()} == {"train", "val"}


def test_pngs_of_labels_are_binary_and_tell_absent_from_unknown(street: Street) -> None:
    street.predict({("a/one.png", "car"): BOTH, ("a/one.png", "sky"): None})
    manifest = street.export("png")
    folders = {place["label"]: street.out / place["folder"] for place in manifest["folders"]}
    car = np.array(Image.open(folders["car"] / "a" / "one.png"))
    np.testing.assert_array_equal(car, BOTH * np.uint8(255))
    assert not np.array(Image.open(folders["sky"] / "a" / "one.png")).any()
    assert not folders["road"].exists()
    (line,) = (street.out / "images.jsonl").read_text().splitlines()
    told = json.loads(line)
    assert (told["present"], told["absent"], told["unknown"]) == (["car"], ["sky"], ["road"])


def test_an_index_png_has_a_palette_and_says_what_nobody_knows(street: Street) -> None:
    exclusive = street.change(exclusive=[["road", "sky"]])
    exclusive.predict(
        {
            ("a/one.png", "road"): ROAD,
            ("a/one.png", "sky"): SKY,
            ("a/two.png", "sky"): SKY,
            ("a/two.png", "car"): CAR,
        }
    )
    exclusive.export("png")
    picture = Image.open(street.out / "index" / "1" / "a" / "one.png")
    assert picture.mode == "P"
    index = np.array(picture)
    np.testing.assert_array_equal(index == 1, ROAD)
    np.testing.assert_array_equal(index == 2, SKY)
    assert set(np.unique(index)) == {0, 1, 2}
    partial = np.array(Image.open(street.out / "index" / "1" / "a" / "two.png"))
    np.testing.assert_array_equal(partial, np.where(SKY, 2, 255))
    palette = np.array(picture.getpalette()).reshape(-1, 3)
    assert palette[:3].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    assert len(np.unique(palette, axis=0)) == 256


def test_an_index_png_has_room_for_254_labels(street: Street) -> None:
    many = [{"label": f"l{number}", "text": "x"} for number in range(256)]
    wide = street.change(
        source={"images": str(street.photos), "queries": many}, exclusive=[["l0", "l255"]]
    )
    wide.predict({("a/one.png", "l0"): ROAD})
    with pytest.raises(ConfigError, match=r"'l255' is category 256 .*export coco"):
        wide.export("png")
    assert not street.out.exists()


def test_images_that_would_share_a_mask_file_are_refused(street: Street) -> None:
    Image.new("RGB", (WIDTH, HEIGHT)).save(street.photos / "a" / "one.jpg")
    street.predict({("a/one.png", "car"): CAR})
    for fmt in ("png", "yolo"):
        with pytest.raises(InputError, match=r"a/one\.jpg and a/one\.png would share"):
            street.export(fmt)
    assert street.export("coco")["images"] == 1


def test_parquet_rows_are_shapes_and_absences(street: Street) -> None:
    street.predict({("a/one.png", "car"): BOTH, ("a/one.png", "sky"): None}, {"car": 0.75})
    street.export("parquet", instances=True)
    rows = pq.read_table(street.out / "masks.parquet").to_pylist()
    assert [(row["label"], row["present"], row["instance"]) for row in rows] == [
        ("car", True, 0),
        ("car", True, 1),
        ("sky", False, 0),
    ]
    np.testing.assert_array_equal(pixels(rows[0]) | pixels(rows[1]), BOTH)
    assert not pixels(rows[2]).any()
    first = rows[0]
    assert (first["score"], first["verdict"], first["category_id"]) == (0.75, "predicted", 3)
    assert first["group"] == (street.photos / "a").as_uri()
    assert (first["area"], first["bbox"]) == (32, [30.0, 2.0, 8.0, 4.0])
    assert (rows[2]["score"], rows[2]["area"]) == (None, 0)


def pixels(row: dict[str, Any]) -> np.ndarray:
    rle = row["mask"]
    decoded: np.ndarray = coco.decode(
        {"size": [rle["height"], rle["width"]], "counts": rle["counts"]}
    )
    return decoded.astype(np.bool_)
