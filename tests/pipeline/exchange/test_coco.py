"""COCO exports read back with pycocotools give the masks of the tables."""

import json
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.mask import toBbox

from tests.pipeline.exchange.conftest import HEIGHT, WIDTH, Street, rectangle

ROAD, SKY = rectangle(15, 0, 30, 40), rectangle(0, 0, 10, 40)
RING = rectangle(5, 5, 25, 25) & ~rectangle(10, 10, 15, 20)


def read(street: Street, name: str = "annotations.json") -> COCO:
    return COCO(str(street.out / name))


def by_name(coco: COCO) -> dict[str, dict[str, Any]]:
    return {image["file_name"]: image for image in coco.dataset["images"]}


def test_run_lengths_come_back_exactly(street: Street) -> None:
    street.predict(
        {("a/one.png", "road"): ROAD, ("a/one.png", "sky"): None, ("b/one.png", "sky"): SKY},
        {"road": 0.75},
    )
    manifest = street.export("coco")
    coco = read(street)
    images = by_name(coco)
    assert list(images) == ["a/one.png", "b/one.png"]
    assert (images["a/one.png"]["width"], images["a/one.png"]["height"]) == (WIDTH, HEIGHT)
    assert images["a/one.png"]["neg_category_ids"] == [2]
    assert [row["name"] for row in coco.dataset["categories"]] == ["road", "sky", "car"]
    road, sky = coco.dataset["annotations"]
    np.testing.assert_array_equal(coco.annToMask(road), ROAD)
    np.testing.assert_array_equal(coco.annToMask(sky), SKY)
    assert (road["bbox"], road["area"], road["score"]) == ([0, 15, 40, 15], 600, 0.75)
    assert (manifest["images"], manifest["present"], manifest["absent"]) == (2, 2, 1)
    assert (manifest["unknown"], manifest["partial_images"]) == (3, 2)
    assert manifest["left_out"]["unanswered_images"] == 1


@pytest.mark.parametrize(("tolerance", "least"), [(0.0, 1.0), (1.0, 0.8)])
def test_polygons_come_back_and_say_what_they_lose(
    street: Street, tolerance: float, least: float
) -> None:
    random = np.random.default_rng(1)
    speckled = rectangle(3, 3, 27, 37) & (random.random((HEIGHT, WIDTH)) > 0.3)
    street.predict({("a/one.png", "road"): ROAD | speckled, ("a/two.png", "car"): RING})
    manifest = street.export("coco-polygons", tolerance=tolerance)
    coco = read(street)
    rough, ring = coco.dataset["annotations"]
    assert isinstance(ring["segmentation"][0][0], float)
    np.testing.assert_array_equal(coco.annToMask(ring), rectangle(5, 5, 25, 25))
    for row in (rough, ring):
        assert row["area"] == coco.annToMask(row).sum()
        assert row["bbox"] == toBbox(coco.annToRLE(row)).tolist()
    told = manifest["polygons"]
    ious = [iou(coco.annToMask(rough), ROAD | speckled), iou(coco.annToMask(ring), RING)]
    assert told["iou_mean"] == pytest.approx(np.mean(ious), abs=1e-4)
    assert told["iou_least"] == pytest.approx(min(ious), abs=1e-4)
    assert (told["masks"], told["masks_with_holes"]) == (2, 2)
    assert min(ious) > least * 0.8
    if not tolerance:
        filled = coco.annToMask(rough).astype(np.bool_) & ~(ROAD | speckled)
        assert told["hole_pixels"] == filled.sum() + 50


def iou(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first.astype(np.bool_), second.astype(np.bool_)
    return float((first & second).sum() / (first | second).sum())


def test_instances_are_connected_parts_and_small_ones_are_counted(street: Street) -> None:
    parts = [rectangle(0, 0, 5, 5), rectangle(5, 5, 9, 9), rectangle(20, 20, 22, 22)]
    crumbs = rectangle(0, 30, 1, 31) | rectangle(0, 33, 1, 35)
    street.predict(
        {
            ("a/one.png", "car"): parts[0] | parts[1] | parts[2] | crumbs,
            ("a/two.png", "car"): crumbs,
        }
    )
    manifest = street.export("coco", instances=True, least=4)
    coco = read(street)
    found = [coco.annToMask(row) for row in coco.dataset["annotations"]]
    np.testing.assert_array_equal(found[0], parts[0] | parts[1])  # they touch at a corner
    np.testing.assert_array_equal(found[1], parts[2])
    np.testing.assert_array_equal(found[2], rectangle(0, 33, 1, 35))  # the largest stays
    assert len(found) == 3
    assert manifest["instances"] == {
        "connectivity": 8,
        "least_pixels": 4,
        "kept": 3,
        "dropped": 3,
        "dropped_pixels": 4,
    }


def test_category_ids_stay_when_queries_come_and_go(street: Street) -> None:
    street.predict({("a/one.png", "car"): ROAD})
    street.export("coco")
    other = street.change(
        source={
            "images": str(street.photos),
            "queries": [{"label": "pole", "text": "pole"}, {"label": "car", "text": "the car"}],
        }
    )
    manifest = other.export("coco", replace=True)
    assert {row["name"]: row["id"] for row in manifest["categories"]} == {
        "road": 1,
        "sky": 2,
        "car": 3,
        "pole": 4,
    }
    (annotation,) = read(street).dataset["annotations"]
    assert annotation["category_id"] == 3


@pytest.mark.parametrize("place", ["photos", "moved"])
def test_folders_are_split_whole_wherever_they_lie(street: Street, place: str) -> None:
    street.photos.rename(street.folder / place)
    images = str(street.folder / place)
    run = street.change(source={**street.run.source.model_dump(), "images": images})
    run.predict({(f"{name}.png", "car"): ROAD for name in ("a/one", "a/two", "b/one")})
    manifest = run.export("coco", val_share=0.5)
    assert (manifest["split_by"], manifest["splits"]) == ("group", {"train": 2, "val": 1})
    assert list(by_name(read(street, "val.json"))) == ["b/one.png"]
    assert list(by_name(read(street, "train.json"))) == ["a/one.png", "a/two.png"]


def test_groups_of_a_manifest_are_split_whole(street: Street) -> None:
    manifest = street.folder / "images.csv"
    rows = ["image,group", "photos/a/one.png,g1", "photos/a/two.png,north", "photos/b/one.png,g1"]
    manifest.write_text("\n".join(rows))
    run = street.change(source={**street.run.source.model_dump(), "images": str(manifest)})
    names = [f"photos/{name}.png" for name in ("a/one", "a/two", "b/one")]
    run.predict({(name, "car"): ROAD for name in names})
    run.export("coco", val_share=0.5)
    assert list(by_name(read(street, "train.json"))) == [names[1]]
    assert list(by_name(read(street, "val.json"))) == [names[0], names[2]]


def test_images_of_a_single_group_are_split_one_by_one(street: Street) -> None:
    flat = street.photos / "a"
    for number in range(30):
        Image.new("RGB", (WIDTH, HEIGHT)).save(flat / f"{number}.png")
    run = street.change(source={**street.run.source.model_dump(), "images": str(flat)})
    run.predict({(f"{number}.png", "car"): ROAD for number in range(30)})
    manifest = run.export("coco", val_share=0.5)
    assert manifest["split_by"] == "image"
    assert 5 < manifest["splits"]["val"] < 25


def test_names_outside_of_the_source_folder_are_whole_paths(street: Street) -> None:
    manifest = street.folder / "lists" / "images.csv"
    manifest.parent.mkdir()
    manifest.write_text(f"image\n{street.photos}/a/one.png\n")
    elsewhere = street.change(
        source={"images": str(manifest), "queries": [{"label": "car", "text": "the car"}]}
    )
    name = f"_disk{street.photos}/a/one.png"
    elsewhere.predict({(name, "car"): ROAD})
    elsewhere.export("coco", images=True)
    assert list(by_name(read(street))) == [name]
    copied = street.out / "images" / name
    assert copied.read_bytes() == (street.photos / "a/one.png").read_bytes()


def test_the_file_is_json_without_an_annotation_too(street: Street) -> None:
    street.predict({("a/one.png", "car"): None})
    street.export("coco")
    content = json.loads((street.out / "annotations.json").read_text())
    assert (len(content["images"]), content["annotations"]) == (1, [])
    assert sorted(path.name for path in street.out.iterdir()) == ["annotations.json", "export.json"]
