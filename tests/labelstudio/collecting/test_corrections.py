"""What an annotation becomes: masks, points and verdicts, from regions as publishing makes them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelstudio import brush
from labelstudio.client import Project
from labelstudio.collecting.annotation import AnnotationError, parse_annotation
from labelstudio.collecting.corrections import Work, corrections_of
from labelstudio.publishing.payload import COARSE_NOTE, coarse, regions_of
from labelstudio.settings import LabelStudioSettings
from pipeline import masks
from pipeline.records import Correction, Prediction

Make = Callable[..., Prediction]
Region = dict[str, Any]
SETTINGS = LabelStudioSettings(url="http://localhost", project="street")
PROJECT = Project(7, "2026-01-01T00:00:00Z", "street", {}, (), 1, "")


def shown(row: Prediction, **changes: Any) -> list[Region]:
    """Return the regions that a person starts from, as their own objects."""
    regions = regions_of(row, SETTINGS.model_copy(update=changes)).regions
    return [{**region, "value": dict(region["value"])} for region in regions]


def read(rows: Sequence[Prediction], regions: Sequence[Region], **changes: Any) -> list[Correction]:
    """Return what an annotation with those regions says about predictions."""
    annotation = {
        "id": 5,
        "task": 3,
        "created_at": "2026-01-02T00:00:00.5Z",
        "updated_at": "2026-01-02T00:00:01.5Z",
        "completed_by": 1,
        "was_cancelled": changes.pop("cancelled", False),
        "lead_time": 9.0,
        "result": list(regions),
    }
    work = Work(
        project=PROJECT,
        annotation=parse_annotation({**annotation, **changes.pop("annotation", {})}),
        arm="shown",
        shown_now=[row.key for row in rows],
        candidates=rows,
        points_per_sign=4,
        shown_ids=frozenset,
    )
    return corrections_of(replace(work, **changes))


def one(row: Prediction, regions: Sequence[Region], **changes: Any) -> Correction:
    (correction,) = read([row], regions, **changes)
    return correction


def painted(row: Prediction, mask: Any, **changes: Any) -> Region:
    """Return a brush region as a browser makes one."""
    region = {
        **shown(row)[0],
        "id": "by hand",
        "type": "brushlabels",
        "from_name": "mask",
        "value": {"format": "rle", "rle": brush.encode(mask), "brushlabels": [row.label]},
    }
    return {**region, **changes}


def box(row: Prediction, columns: slice, rows: slice = slice(None)) -> Any:
    mask = np.zeros((row.height, row.width), np.bool_)
    mask[rows, columns] = True
    return mask


def choose(regions: list[Region], choice: str) -> list[Region]:
    """Change the last region, which is the verdict, to another choice."""
    return [*regions[:-1], {**regions[-1], "value": {"choices": [choice]}}]


def fates(correction: Correction) -> list[str]:
    return sorted(point.fate for point in correction.points)


def test_untouched_is_accepted_with_the_tables_own_mask_and_points(prediction: Make) -> None:
    row = prediction()
    found = one(row, shown(row))
    assert (found.verdict, found.present, found.choice) == ("accepted", True, "present")
    assert found.mask == row.mask
    assert (found.iou, found.boundary_f) == (1, 1)
    assert fates(found) == ["kept"] * 8
    assert {(point.x, point.y) for point in found.points} <= {(p.x, p.y) for p in row.points}
    assert (found.key, found.model_version, found.annotator, found.arm) == (
        row.key,
        "tiny@1",
        "1",
        "shown",
    )


def test_an_untouched_absence_is_accepted(prediction: Make) -> None:
    row = prediction(present=False)
    found = one(row, shown(row))
    assert (found.verdict, found.present, found.choice) == ("accepted", False, "absent")
    assert (masks.area(found.mask), found.points, found.iou) == (0, (), 1)


def test_a_painted_mask_is_the_union_of_its_regions(prediction: Make) -> None:
    row = prediction()
    more = painted(row, box(row, slice(50, 60)))
    found = one(row, [*shown(row), more])
    assert found.verdict == "edited"
    wanted = masks.decode(row.mask) | box(row, slice(50, 60))
    assert (masks.decode(found.mask) == wanted).all()
    assert found.iou == pytest.approx(masks.decode(row.mask).sum() / wanted.sum())
    assert 0 < found.boundary_f < 1


def test_soft_edges_count_from_the_middle(prediction: Make) -> None:
    row = prediction()
    soft = np.where(box(row, slice(0, 10)), 127, np.where(box(row, slice(10, 20)), 128, 0))
    found = one(row, [painted(row, soft.astype(np.uint8))])
    assert (masks.decode(found.mask) == box(row, slice(10, 20))).all()


def test_a_mask_elsewhere_or_of_an_absence_is_redrawn(prediction: Make) -> None:
    row, absent = prediction(), prediction(present=False)
    assert one(row, [painted(row, box(row, slice(60, 64)))]).verdict == "redrawn"
    drawn = one(absent, [*shown(absent), painted(absent, box(absent, slice(5)))])
    assert (drawn.verdict, drawn.present, drawn.iou) == ("redrawn", True, 0)


def test_an_erased_mask_is_absent(prediction: Make) -> None:
    row = prediction()
    rest = [region for region in shown(row) if region["type"] == "choices"]
    empty = painted(row, box(row, slice(0)))
    for regions in (rest, [], [*rest, empty]):
        found = one(row, regions)
        assert (found.verdict, found.present, found.points) == ("absent", False, ())
        assert (masks.area(found.mask), found.iou, found.boundary_f) == (0, 0, 0)


def test_an_annotation_of_ones_own_says_nothing_about_what_it_leaves_out(prediction: Make) -> None:
    road, sky = prediction(), prediction("sky")
    found = read([road, sky], [painted(road, box(road, slice(50, 60)))])
    assert [(row.label, row.verdict, row.present) for row in found] == [
        ("road", "redrawn", True),
        ("sky", "skipped", False),
    ]


def test_absent_is_absent_whatever_is_left_of_the_mask(prediction: Make) -> None:
    row = prediction()
    found = one(row, choose(shown(row), "absent"))
    assert (found.verdict, found.present, found.choice) == ("absent", False, "absent")
    assert masks.area(found.mask) == 0


def test_wrong_is_skipped_unless_the_mask_was_repaired(prediction: Make) -> None:
    row = prediction()
    wrong = choose(shown(row), "wrong")
    assert (one(row, wrong).verdict, one(row, wrong).choice) == ("skipped", "wrong")
    assert one(row, [*wrong, painted(row, box(row, slice(50, 60)))]).verdict == "edited"
    assert one(row, [wrong[-1], painted(row, box(row, slice(60, 64)))]).verdict == "redrawn"


def test_present_without_a_mask_says_too_little(prediction: Make) -> None:
    row = prediction(present=False)
    assert one(row, choose(shown(row), "present")).verdict == "skipped"
    assert one(row, choose(shown(row), "wrong")).verdict == "skipped"


def test_what_became_of_points(prediction: Make) -> None:
    row = prediction()
    mask, first, second, third, *rest = shown(row)
    first["value"]["x"] += 25
    second["value"]["keypointlabels"] = ["road -"]
    added = {**first, "id": "new", "value": {"x": 75.0, "y": 50.0, "keypointlabels": ["road +"]}}
    found = one(row, [mask, first, second, *rest, added])
    assert found.verdict == "edited"
    assert fates(found) == ["added", "flipped", *["kept"] * 5, "moved", "removed"]
    by_fate = {point.fate: point for point in found.points}
    start = row.points[0]
    assert (by_fate["moved"].from_x, by_fate["moved"].from_y) == (start.x, start.y)
    assert by_fate["moved"].x == pytest.approx(start.x + 16)
    assert (by_fate["added"].x, by_fate["added"].y) == (48, 24)
    assert by_fate["flipped"].label == 0
    assert by_fate["removed"].x == pytest.approx(third["value"]["x"] * 0.64)


def test_points_that_were_never_shown_are_not_removed(prediction: Make) -> None:
    row = prediction()
    assert len(row.points) == 18
    assert fates(one(row, shown(row))) == ["kept"] * 8
    fewer = shown(row, points_per_sign=1)
    ids = frozenset(region["id"] for region in fewer)
    assert fates(one(row, fewer, shown_ids=lambda: ids)) == ["kept", "kept"]
    assert fates(one(row, fewer[:1] + fewer[2:], shown_ids=lambda: ids)) == ["kept", "removed"]


def test_a_point_dragged_past_the_edge_lies_on_it(prediction: Make) -> None:
    row = prediction()
    mask, point, *rest = shown(row)
    point["value"]["x"] = 104.0
    moved = [p for p in one(row, [mask, point, *rest]).points if p.fate == "moved"]
    assert [p.x for p in moved] == [64]


def test_a_relabeled_region_speaks_of_its_new_label(prediction: Make) -> None:
    road, sky = prediction("road"), prediction("sky", present=False)
    mask, *rest = shown(road)
    mask["value"]["brushlabels"] = ["sky"]
    found = {c.label: c for c in read([road, sky], [mask, *rest, *shown(sky)])}
    assert (found["road"].verdict, found["sky"].verdict) == ("absent", "redrawn")
    assert found["sky"].mask == road.mask


def noisy(prediction: Make) -> Prediction:
    noise = np.random.default_rng(0).random((200, 300)) < 0.5
    return prediction(mask=masks.encode(noise), width=300, height=200)


def test_a_coarse_mask_that_nobody_touched_is_the_tables_own(prediction: Make) -> None:
    row = noisy(prediction)
    regions = shown(row, task_bytes=50_000)
    assert "squares of 8" in regions[0]["meta"]["text"][0]
    found = one(row, regions)
    assert (found.verdict, found.mask, found.iou) == ("accepted", row.mask, 1)


def test_paint_on_a_coarse_mask_leaves_the_rest_fine(prediction: Make) -> None:
    row = noisy(prediction)
    regions = shown(row, task_bytes=50_000)
    seen = coarse(masks.decode(row.mask), 8)
    seen[:, :50] = True
    regions[0]["value"]["rle"] = brush.encode(seen)
    found = one(row, regions)
    left = masks.decode(found.mask)
    assert found.verdict == "edited"
    assert (left[:, 56:] == masks.decode(row.mask)[:, 56:]).all()
    assert left[:, :50][~coarse(masks.decode(row.mask), 8)[:, :50]].all()


def test_skipped_says_so_of_every_query(prediction: Make) -> None:
    rows = [prediction("road"), prediction("sky", present=False)]
    regions = [*shown(rows[0]), *shown(rows[1])]
    found = read(rows, regions, cancelled=True)
    assert [c.verdict for c in found] == ["skipped", "skipped"]
    for region in regions:
        if region["type"] == "choices":
            region["value"]["choices"] = ["wrong"]
    assert [c.choice for c in read(rows, regions)] == ["wrong", "wrong"]
    assert [c.choice for c in read(rows, regions, cancelled=True)] == ["", ""]


def test_seconds_are_shared_equally_and_ids_stay(prediction: Make) -> None:
    rows = [prediction("road"), prediction("sky", present=False), prediction("car")]
    regions = [region for row in rows for region in shown(row)]
    found = read(rows, regions)
    assert [c.seconds for c in found] == [3, 3, 3]
    later = {"updated_at": "2026-02-01T00:00:00Z", "lead_time": 30}
    assert [c.id for c in read(rows, regions, annotation=later)] == [c.id for c in found]
    other = {"created_at": "2026-02-01T00:00:00Z"}
    assert not {c.id for c in read(rows, [], annotation=other)} & {c.id for c in found}


def test_work_refers_to_the_version_it_began_at(prediction: Make) -> None:
    old = [prediction("road"), prediction("sky")]
    new = [replace(row, key=f"2 {row.key}", model_version="tiny@2") for row in old]
    regions = [region for region in shown(old[0]) if region["type"] != "choices"]
    found = read(old + new, regions, shown_now=[row.key for row in new])
    assert {c.key for c in found} == {row.key for row in old}
    untouched = read(old + new, [], shown_now=[row.key for row in new])
    assert {c.key for c in untouched} == {row.key for row in new}


def test_a_query_asked_otherwise_by_now_keeps_its_old_text(prediction: Make) -> None:
    old = prediction("road")
    new = replace(old, key="new", query="the wet road")
    found = one(old, shown(old), candidates=[old, new], shown_now=["new"])
    assert (found.key, found.query) == (old.key, "the road")


def test_a_blank_task_was_drawn_from_nothing(prediction: Make) -> None:
    row = prediction()
    drawn = one(row, [painted(row, masks.decode(row.mask))], arm="blank")
    assert (drawn.verdict, drawn.arm, drawn.iou, drawn.points) == ("redrawn", "blank", 1, ())
    said = one(row, choose(shown(row), "absent")[-1:], arm="blank")
    assert (said.verdict, said.present) == ("absent", False)
    agreed = one(prediction(present=False), choose(shown(row), "absent")[-1:], arm="blank")
    assert agreed.verdict == "accepted"
    assert one(row, [], arm="blank").verdict == "skipped"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"original_width": 640}, "640 x 48 pixels"),
        ({"value": {"rle": [1, 2, 3], "brushlabels": ["road"]}}, "does not decode"),
        ({"value": {"rle": "http://127.0.0.1/x", "brushlabels": ["road"]}}, "does not decode"),
        ({"type": "polygonlabels", "value": {"polygonlabels": ["road"]}}, "polygonlabels"),
        ({"value": None}, "has no value"),
    ],
)
def test_what_cannot_be_read_is_named(prediction: Make, changes: Region, reason: str) -> None:
    row = prediction()
    broken = painted(row, box(row, slice(5)), **changes)
    with pytest.raises(AnnotationError, match=f"annotation 5 on task 3: .*{reason}"):
        one(row, [*shown(row), broken])


@pytest.mark.parametrize(
    "place", [10**400, float("nan"), "left", None], ids=["huge", "nan", "text", "null"]
)
def test_a_point_that_has_no_place_is_named(prediction: Make, place: Any) -> None:
    row = prediction()
    mask, point, *rest = shown(row)
    point["value"]["x"] = place
    with pytest.raises(AnnotationError, match=r"annotation 5 on task 3: the point .* has no place"):
        one(row, [mask, point, *rest])


def test_seconds_that_are_no_number_are_named(prediction: Make) -> None:
    row = prediction()
    with pytest.raises(AnnotationError, match="annotation 5 cannot be read"):
        one(row, shown(row), annotation={"lead_time": 10**400})


def test_a_note_on_squares_that_publishing_cannot_have_written_says_nothing(
    prediction: Make,
) -> None:
    row = prediction()
    mask, *rest = shown(row)
    mask["meta"] = {"text": [COARSE_NOTE.format("9" * 5000)]}
    assert one(row, [mask, *rest]).verdict == "accepted"


def test_a_recorded_annotation_is_read(shared: Path) -> None:
    text = (shared / "labelstudio-samples" / "task_skipped_ui.json").read_text(encoding="utf-8")
    (annotation,) = map(parse_annotation, json.loads(text)["annotations"])
    assert (annotation.number, annotation.annotator, annotation.cancelled) == (106, "1", True)
    assert annotation.seconds == pytest.approx(23.743)
    assert {region["origin"] for region in annotation.regions} == {"prediction", "manual"}
