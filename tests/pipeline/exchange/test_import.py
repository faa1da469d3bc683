"""Masks come in as they are, once, and where they belong; what does not fit is named."""

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from pipeline import masks
from pipeline.cli import run as readloop
from pipeline.errors import ConfigError, InputError
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.tables import PredictionTables
from tests.pipeline.exchange.conftest import HEIGHT, WIDTH, Street, rectangle

ROAD, SKY, CAR = rectangle(15, 0, 30, 40), rectangle(0, 0, 10, 40), rectangle(12, 5, 20, 12)
RING = rectangle(5, 5, 25, 25) & ~rectangle(10, 10, 15, 20)
TRUTH = {
    ("a/one.png", "road"): ROAD,
    ("a/one.png", "sky"): None,
    ("a/two.png", "car"): RING | rectangle(0, 30, 2, 33),
    ("b/one.png", "sky"): SKY,
}


def check_truth(rows: dict[tuple[str, str], Any]) -> None:
    assert rows.keys() == TRUTH.keys()
    for place, mask in TRUTH.items():
        assert rows[place].present == (mask is not None)
        expected = np.zeros((HEIGHT, WIDTH), np.bool_) if mask is None else mask
        np.testing.assert_array_equal(masks.decode(rows[place].mask), expected)


def coco_file(folder: Path, *annotations: dict[str, Any], **changes: Any) -> Path:
    """Write a COCO file about a/one.png with categories road (1), sky (2) and truck (9)."""
    content = {
        "images": [{"id": 7, "file_name": "a/one.png", "width": WIDTH, "height": HEIGHT}],
        "categories": [
            {"id": 1, "name": "road"},
            {"id": 2, "name": "sky"},
            {"id": 9, "name": "truck"},
        ],
        "annotations": [
            {"id": number, "image_id": 7, "category_id": 1, "iscrowd": 0, **annotation}
            for number, annotation in enumerate(annotations, 1)
        ],
    }
    path = folder / "old.json"
    path.write_text(json.dumps(content | changes))
    return path


def compressed(mask: np.ndarray) -> dict[str, Any]:
    packed = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": packed["size"], "counts": packed["counts"].decode()}


def uncompressed(mask: np.ndarray) -> dict[str, Any]:
    """Return run lengths as a list, made without pycocotools."""
    runs = [len(list(run)) for _, run in groupby(mask.ravel(order="F"))]
    return {"size": list(mask.shape), "counts": [0, *runs] if mask[0, 0] else runs}


BOX = {"segmentation": [[0, 15, 40, 15, 40, 30, 0, 30]]}


@pytest.mark.parametrize("instances", [False, True])
@pytest.mark.parametrize("target", ["corrections", "predictions"])
def test_coco_comes_back_as_it_went_out(street: Street, target: str, instances: bool) -> None:
    street.predict(TRUTH)
    street.export("coco", instances=instances)
    summary = street.bring(street.out / "annotations.json", target)
    assert (summary.images, summary.present, summary.absent, summary.new) == (3, 3, 1, 4)
    assert summary.masks == (4 if instances else 3)
    if target == "corrections":
        check_truth(street.corrections())
    else:
        check_truth(street.predictions(summary.model_version))


@pytest.mark.parametrize("exclusive", [(), (("road", "sky"),)])
def test_pngs_come_back_as_they_went_out(street: Street, exclusive: Any) -> None:
    run = street.change(exclusive=exclusive)
    run.predict(TRUTH)
    run.export("png")
    summary = street.bring(street.out, "predictions", fmt="png")
    assert (summary.images, summary.new) == (3, 4)
    check_truth(street.predictions(summary.model_version))


def test_masks_of_all_kinds_are_joined_under_their_label(street: Street) -> None:
    source = coco_file(
        street.folder,
        {"segmentation": [[0, 0, 4, 0, 4, 4, 0, 4], [8, 0, 12, 0, 12, 4, 8, 4]]},
        {"segmentation": compressed(ROAD)},
        {"segmentation": uncompressed(CAR), "iscrowd": 1},
        {"segmentation": uncompressed(~CAR), "category_id": 2},
    )
    summary = street.bring(source)
    assert (summary.present, summary.masks, summary.crowds) == (2, 4, 1)
    expected = ROAD | CAR | rectangle(0, 0, 4, 4) | rectangle(0, 8, 4, 12)
    found = street.corrections()
    np.testing.assert_array_equal(masks.decode(found["a/one.png", "road"].mask), expected)
    np.testing.assert_array_equal(masks.decode(found["a/one.png", "sky"].mask), ~CAR)


@pytest.mark.parametrize("target", ["corrections", "predictions"])
def test_importing_again_adds_nothing(street: Street, target: str) -> None:
    source = coco_file(street.folder, BOX)
    first = street.bring(source, target)
    before = CorrectionTable(street.store).version, PredictionTables(street.store).version
    again = street.bring(source, target)
    assert (first.new, again.new, again.updated, again.existing) == (1, 0, 0, 1)
    assert again.model_version == first.model_version
    assert before == (
        CorrectionTable(street.store).version,
        PredictionTables(street.store).version,
    )


def test_a_changed_source_revises_what_it_said(street: Street) -> None:
    street.bring(coco_file(street.folder, BOX))
    summary = street.bring(coco_file(street.folder, {"segmentation": compressed(CAR)}))
    assert (summary.new, summary.updated) == (0, 1)
    (row,) = CorrectionTable(street.store).latest()
    np.testing.assert_array_equal(masks.decode(row.mask), CAR)
    street.bring(coco_file(street.folder, BOX), name="other")
    assert {row.annotator for row in CorrectionTable(street.store).latest()} == {
        "import:old",
        "import:other",
    }


def test_corrections_are_compared_with_the_prediction_there_is(street: Street) -> None:
    street.predict(
        {
            ("a/one.png", "road"): ROAD,
            ("a/one.png", "sky"): SKY,
            ("a/two.png", "road"): CAR,
            ("a/two.png", "sky"): None,
            ("b/one.png", "road"): ROAD | CAR,
        }
    )
    images = [
        {"id": n, "file_name": name, "width": WIDTH, "height": HEIGHT, "neg_category_ids": [2]}
        for n, name in enumerate(("a/one.png", "a/two.png", "b/one.png"), 7)
    ]
    same = [{"segmentation": compressed(ROAD), "image_id": number} for number in (7, 8, 9)]
    street.bring(coco_file(street.folder, *same, images=images))
    verdicts = {place: row.verdict for place, row in street.corrections().items()}
    assert verdicts == {
        ("a/one.png", "road"): "accepted",
        ("a/one.png", "sky"): "absent",
        ("a/two.png", "road"): "edited",
        ("a/two.png", "sky"): "accepted",
        ("b/one.png", "road"): "edited",
        ("b/one.png", "sky"): "absent",
    }
    row = street.corrections()["b/one.png", "road"]
    assert row.iou == pytest.approx(600 / (600 + 3 * 7))
    assert (row.key, row.model_version, row.annotator) == ("", "", "import:old")


def test_categories_get_other_labels_and_what_is_not_there_can_be_absent(street: Street) -> None:
    source = coco_file(street.folder, {"segmentation": compressed(CAR), "category_id": 9})
    summary = street.bring(source, labels={"truck": "car"}, exhaustive=True)
    assert (summary.present, summary.absent) == (1, 2)
    rows = street.corrections()
    assert {label: row.present for (_, label), row in rows.items()} == {
        "road": False,
        "sky": False,
        "car": True,
    }


@pytest.mark.parametrize(("absent", "told"), [([2], {}), ([2, 9], {"car": False})])
def test_a_joined_label_is_absent_where_all_of_its_categories_are(
    street: Street, absent: list[int], told: dict[str, bool]
) -> None:
    image = {"id": 7, "file_name": "a/one.png", "width": WIDTH, "height": HEIGHT}
    source = coco_file(street.folder, BOX, images=[{**image, "neg_category_ids": absent}])
    street.bring(source, labels={"sky": "car", "truck": "car"})
    found = {label: row.present for (_, label), row in street.corrections().items()}
    assert found == {"road": True, **told}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("photos/b/one.png", "b/one.png"),
        ("two.png", "a/two.png"),
        (r"C:\data\a\two.png", "a/two.png"),
        ("https://example.com/x/b/one.png", "b/one.png"),
        ("./a//two.png", "a/two.png"),
    ],
)
def test_images_are_found_by_the_ends_of_their_paths(street: Street, name: str, found: str) -> None:
    image = {"id": 7, "file_name": name, "width": WIDTH, "height": HEIGHT}
    street.bring(coco_file(street.folder, BOX, images=[image]))
    assert list(street.corrections()) == [(found, "road")]


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ({"file_name": "c/one.png"}, "c/one.png: is no image of the run's source"),
        ({"file_name": "one.png"}, "could be any of a/one.png, b/one.png: write more"),
        ({"file_name": "../a/one.png"}, "../a/one.png: is not a path of an image"),
        ({"file_name": "a/.."}, "is not a path of an image"),
        ({"width": 41}, "is 41x30 pixels in the source, the image shows as 40x30"),
        ({"width": HEIGHT, "height": WIDTH}, "turned by its EXIF orientation"),
    ],
)
def test_images_that_do_not_fit_are_named_and_nothing_is_written(
    street: Street, image: dict[str, Any], told: str
) -> None:
    sized = {"id": 7, "file_name": "a/one.png", "width": WIDTH, "height": HEIGHT}
    source = coco_file(street.folder, BOX, images=[sized | image])
    with pytest.raises(InputError, match="nothing was imported") as caught:
        street.bring(source)
    assert told in str(caught.value)
    assert not street.corrections()


@pytest.mark.parametrize(
    ("segmentation", "told"),
    [
        ([[0, 0, 4, 0]], "a polygon has 4 numbers"),
        ([[0, 0, 4, 0, 4, 4, 1]], "a polygon has 7 numbers"),
        ([[0, 0, 1e9, 0, 4, 4]], "pixels outside of the image"),
        ([[-40, 0, 4, 0, 4, 4]], "40 pixels outside of the image"),
        ([], "has no segmentation"),
        ({"size": [HEIGHT, WIDTH], "counts": "zzz~"}, "run"),
        ({"size": [HEIGHT, WIDTH], "counts": [5, 5]}, "do not fill"),
        ({"size": [HEIGHT, WIDTH], "counts": [4294967295, 4294967295]}, "do not fill"),
        ({"size": [60000, 60000], "counts": [3600000000]}, "size [60000, 60000]"),
    ],
)
def test_masks_that_are_none_are_named(street: Street, segmentation: Any, told: str) -> None:
    with pytest.raises(InputError) as caught:
        street.bring(coco_file(street.folder, {"segmentation": segmentation}))
    assert "a/one.png: annotations[0]" in str(caught.value)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is not a COCO file"),
        ("[]", "is not a COCO file"),
        ("[" * 100_000, "is not a COCO file"),
        ('{"images": [], "categories": []}', "annotations: Field required"),
        ('{"images": [{"id": -1}], "categories": [], "annotations": []}', "images.0.id"),
        ('{"images": [], "categories": [], "annotations": [{"image_id": 1, "category_id": 1, '
         '"segmentation": [[NaN, 0, 1, 1, 0, 1]]}]}', "finite"),
        ('{"images": [], "categories": [{"id": 1, "name": "x"}, {"id": 1, "name": "y"}], '
         '"annotations": []}', "category id 1 twice"),
        ('{"images": [], "categories": [], "annotations": [{"image_id": 1, "category_id": 1, '
         '"segmentation": []}]}', "annotations[0] is of no image: 1"),
        ('{"images": [{"id": 1, "file_name": "a", "width": 10000000000, "height": 1}], '
         '"categories": [], "annotations": []}', "images.0.width"),
    ],
)  # fmt: skip
def test_files_that_are_none_are_named(street: Street, text: str, told: str) -> None:
    path = street.folder / "bad.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        street.bring(path)
    assert told in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_what_fits_can_be_imported_without_the_rest(
    street: Street, capfd: pytest.CaptureFixture[str]
) -> None:
    images = [
        {"id": n, "file_name": name, "width": WIDTH, "height": HEIGHT}
        for n, name in enumerate(("a/one.png", "c/no.png", "a/two.png", "photos/a/two.png"), 7)
    ]
    source = coco_file(
        street.folder, BOX, {**BOX, "category_id": 9}, {**BOX, "image_id": 9}, images=images
    )
    arguments = ["import", street.run_file(), str(source), "--as", "corrections"]
    assert readloop([*arguments, "--format", "coco", "--json"]) == 1
    told = capfd.readouterr().err
    assert "1 unmatched, 1 twice, 1 unknown category" in told
    assert "add --label 'truck=LABEL'" in told
    assert readloop([*arguments, "--format", "coco", "--json", "--partial"]) == 2
    summary = json.loads(capfd.readouterr().out)
    assert summary["left_out"] == {"unmatched": 1, "twice": 1, "unknown_category": 1}
    assert list(street.corrections()) == [("a/one.png", "road")]
    assert {row.annotator for row in street.corrections().values()} == {"import:old"}


@pytest.mark.parametrize(
    ("labels", "told"),
    [({"bus": "car"}, "'bus' is no category"), ({"truck": "bus"}, "'bus' is no label of the run")],
)
def test_labels_that_do_not_exist_are_named(
    street: Street, labels: dict[str, str], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        street.bring(coco_file(street.folder, BOX), labels=labels)


def test_a_mask_without_a_pixel_says_nothing(street: Street) -> None:
    source = coco_file(
        street.folder,
        {"segmentation": [[1.1, 1.1, 1.2, 1.1, 1.2, 1.2]]},
        {"segmentation": compressed(SKY), "category_id": 2},
    )
    with pytest.raises(InputError, match=r"1 empty mask\n.*'road' has no pixel"):
        street.bring(source)
    street.bring(source, partial=True, exhaustive=True)
    assert {label for _, label in street.corrections()} == {"sky"}


def test_what_a_source_says_cannot_steer_a_terminal(street: Street) -> None:
    image = {"id": 7, "file_name": "a/\x1b[2J.png", "width": WIDTH, "height": HEIGHT}
    with pytest.raises(InputError) as caught:
        street.bring(coco_file(street.folder, BOX, images=[image]))
    assert "a/?[2J.png: is no image" in str(caught.value)


def test_a_picture_that_cannot_be_decoded_is_named(street: Street) -> None:
    (street.photos / "a" / "one.png").write_bytes(b"GIF89a")
    with pytest.raises(InputError, match=r"1 unreadable\n  a/one.png: .*header"):
        street.bring(coco_file(street.folder, BOX))


def test_sizes_are_those_of_upright_pictures(street: Street) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (HEIGHT, WIDTH)).save(street.photos / "a" / "three.jpg", exif=exif)
    image = {"id": 7, "file_name": "a/three.jpg", "width": WIDTH, "height": HEIGHT}
    assert street.bring(coco_file(street.folder, BOX, images=[image])).new == 1
