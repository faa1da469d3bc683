"""The measures of the loop on photographs, against truths worked out by hand."""

from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from benchmarks.camvid.annotators import corrected_regions, expected_verdict
from benchmarks.camvid.measures import judge, pixels_to_change, quality
from benchmarks.camvid.photos import Photo, PhotoSet, Truth
from benchmarks.camvid.plot import plot
from benchmarks.camvid.report import bars, table
from benchmarks.camvid.settings import Play
from labelstudio import brush
from labelstudio.publishing.payload import regions_of
from labelstudio.settings import LabelStudioSettings
from pipeline import masks
from pipeline.errors import ConfigError, InputError
from pipeline.records import Point, Prediction, Timings

SHOWN = LabelStudioSettings(url="http://127.0.0.1:1", project="test")


def mask(*rows: str) -> np.ndarray:
    return np.array([[sign == "#" for sign in row] for row in rows])


def prediction(label: str, found: np.ndarray | None, size: tuple[int, int] = (2, 4)) -> Prediction:
    points = (Point(0, 0, 1, 1.0),) if found is not None else ()
    return Prediction(
        key=f"key {label}",
        id="",
        image_id="file:///a.png",
        image="file:///a.png",
        image_size=1,
        etag="e",
        group="g",
        width=size[1],
        height=size[0],
        label=label,
        query=f"the {label}",
        present=found is not None,
        answer="It is [SEG]." if found is not None else "There is none.",
        seg_probability=0.5,
        seg_vectors=(),
        mask=masks.empty(*size) if found is None else masks.encode(found),
        points=points,
        predicted_iou=0.5,
        stability=0.5,
        model_version="v",
        timings=Timings(0, 0, 0, 0, 0),
    )


TRUTH = Truth(
    {
        "road": mask("##..", "##.."),
        "sky": mask("..#.", "...."),
        "car": mask("....", "...."),
        "tree": mask("....", "..#."),
    },
    mask("####", "###."),
)


def test_an_answer_is_compared_without_void_pixels() -> None:
    found = judge(prediction("road", mask("##..", "#..#")), TRUTH, "g")
    assert (found.intersection, found.union) == (3, 4)
    assert (found.present, found.found, found.emitted) == (True, True, True)


def test_a_picture_of_another_size_than_its_labels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a\.png: is \(1, 1\), its labels are \(2, 4\)"):
        judge(prediction("road", mask("#"), (1, 1)), TRUTH, "g")


def test_quality_is_over_what_is_there_and_presence_over_all() -> None:
    rows = [
        prediction("road", mask("##..", "#..#")),  # 3 of 4
        prediction("sky", mask("..##", "...#")),  # 1 of 2: void at the end of the second row
        prediction("car", mask("#...", "....")),  # is not there
        prediction("tree", None),  # is there: 0 of 1
    ]
    found = quality([judge(row, TRUTH, "g") for row in rows])
    assert found.miou == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)
    assert found.ciou == pytest.approx(4 / 7)
    assert found.ciou_by_class == {"car": None, "road": 3 / 4, "sky": 1 / 2, "tree": 0.0}
    assert found.presence == 2 / 4
    assert found.accepted == 0


def test_pixels_to_change_are_summed_over_the_classes_without_void() -> None:
    shown = {"road": mask("##..", "#..#"), "car": mask("##..", "...#")}
    # road: one is missing; sky: one; car: two to erase; tree: one. The void pixel counts nowhere.
    assert pixels_to_change(shown, TRUTH) == 1 + 1 + 2 + 1
    assert pixels_to_change(TRUTH.masks, TRUTH) == 0


def test_people_repaint_what_was_shown_paint_what_was_not_and_deny_what_is_not_there() -> None:
    rows = [
        prediction("road", mask("##..", "#..#")),
        prediction("sky", None),
        prediction("car", mask("#...", "....")),
        prediction("tree", mask("....", "..#.")),
    ]
    shown = [region for row in rows for region in regions_of(row, SHOWN).regions]
    left = corrected_regions(shown, TRUTH)
    drawn = {
        region["value"]["brushlabels"][0]: region
        for region in left
        if region["type"] == "brushlabels"
    }
    assert drawn.keys() == {"road", "sky", "tree"}
    for label, region in drawn.items():
        alpha = brush.decode(region["value"]["rle"], 2, 4)
        assert np.array_equal(alpha > brush.PAINTED_ABOVE, TRUTH.masks[label])
    ids = {region["id"] for region in shown}
    assert [drawn[label]["id"] in ids for label in ("road", "sky", "tree")] == [True, False, True]
    said = [region["value"]["choices"][0] for region in left if region["type"] == "choices"]
    assert said == ["present", "present", "absent", "present"]
    assert sum(region["type"] == "keypointlabels" for region in left) == 2


def test_the_verdict_to_expect() -> None:
    there, nothing = TRUTH.masks["road"], TRUTH.masks["car"]
    assert expected_verdict(None, nothing) == "accepted"
    assert expected_verdict(there, nothing) == "absent"
    assert expected_verdict(None, there) == "redrawn"
    assert expected_verdict(TRUTH.masks["sky"], there) == "redrawn"
    assert expected_verdict(mask("##..", "...."), there) == "edited"
    assert expected_verdict(there, there) == "accepted"


LARGE = ("road", "sky", "building", "tree", "car", "pavement")


def row(images: int, **changes: object) -> dict[str, object]:
    return {
        "images": images,
        "miou": 0.1,
        "ciou": 0.2,
        "ciou_by_class": {**dict.fromkeys(LARGE, 0.5), "pole": 0.0},
        "presence": 0.9,
        "replay_miou": 0.6,
        "pixels_per_image": 1000.0,
        "promoted": True,
        "minutes": 1.25,
        **changes,
    }


def test_bars_are_met_by_what_has_risen_enough_and_not_otherwise() -> None:
    start = row(0, pixels_per_image=None, promoted=None)
    last = {"ciou_by_class": dict.fromkeys(LARGE, 0.6), "pixels_per_image": 600.0}
    good = [start, row(2, miou=0.3, ciou=0.3), row(4, miou=0.4, ciou=0.31, **last)]
    assert [bar["met"] for bar in bars(good)] == [True] * 5
    refused = row(4, miou=0.3, ciou=0.3, promoted=False, **last)
    assert all(bar["met"] for bar in bars([*good[:2], refused]))

    fell = row(4, miou=0.29, ciou=0.31, replay_miou=0.549, pixels_per_image=601.0)
    assert [bar["met"] for bar in bars([*good[:2], fell])] == [False, True, False, False, False]
    never = [start, row(2, promoted=False), row(4, promoted=False, **last)]
    assert [bar["met"] for bar in bars(never)] == [False, False, True, True, True]


def test_the_table_has_a_line_for_the_start_and_each_round() -> None:
    before = {"worst": row(0, pixels_per_image=None, promoted=None)}
    text = table({"worst": [row(2, promoted=False), row(4)], "before": before})
    lines = text.splitlines()
    assert len(lines) == 5
    assert lines[2] == "| worst | 0 | 0.100 | 0.200 | 0.500 | 0.900 | 0.600 |  |  | 1.2 |"
    assert lines[3].endswith("| 1,000 | no | 1.2 |")
    with pytest.raises(InputError, match="holds none of worst, random"):
        table({})


def test_a_folder_takes_one_play_only_and_the_rounds_that_there_are_images_for(
    tmp_path: Path,
) -> None:
    one = (Photo("a", tmp_path / "a.png", tmp_path / "l.png", "a"),)
    photos = PhotoSet(tmp_path, ("road",), 7, 1, one)

    def play(**changes: object) -> Play:
        told = {"rounds": (1,), "work": tmp_path / "work", "seed": 0, "template": {}, **changes}
        return Play(pool=photos, judged=photos, **told)

    for rounds, words in (((2, 1), "growing numbers"), ((0, 1), "growing"), ((1, 2), "1 may be")):
        with pytest.raises(InputError, match=words):
            play(rounds=rounds).check()
    play().check()
    play().check()
    with pytest.raises(ConfigError, match="was begun with another run file, seed"):
        play(seed=1, template={"model": "other"}).check()


def test_the_drawing_has_the_measures_and_hollow_points_where_nothing_was_promoted() -> None:
    before = {"worst": row(0, pixels_per_image=None, promoted=None)}
    rounds = [row(2, promoted=False), row(4, miou=0.5, pixels_per_image=500.0)]
    drawn = ET.fromstring(plot({"worst": rounds, "before": before}))  # noqa: S314
    lines = drawn.findall("{*}polyline")
    assert len(lines) == 4
    # From 0 to 4 images across 60 to 400, from 0 to 0.75 up from 310 to 70.
    assert lines[0].get("points") == "60.0,278.0 230.0,278.0 400.0,150.0"
    # From 0 to 1 thousand pixels.
    assert lines[3].get("points") == "670.0,70.0 840.0,190.0"
    fills = [point.get("fill") for point in drawn.findall("{*}circle")][:3]
    assert [fill == "white" for fill in fills] == [False, True, False]
