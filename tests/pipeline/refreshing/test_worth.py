"""What is labeled anew: untouched, not corrected, of another version; the worst first."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pipeline.records import Correction, ImageRef, ImageTasks, LabelTask, Prediction
from pipeline.refreshing.worth import Chooser, Untouched
from pipeline.review.settings import ReviewSettings
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.shards import write_shard
from pipeline.storage.store import Store
from pipeline.storage.tables import PredictionTables

COUNT = 300  # more than are looked at in one go


def image(number: int) -> str:
    return f"id {number}"


@pytest.fixture
def rows(predict: Callable[..., Prediction], store: Store) -> list[Prediction]:
    """Predictions of 300 images; the lower the number, the surer."""
    found = [
        replace(predict(number, "road"), points=(), predicted_iou=1 - number / 1000)
        for number in range(COUNT)
    ]
    found = [replace(row, seg_probability=1.0, stability=1.0) for row in found]
    PredictionTables(store).commit([write_shard(store, found)])
    return found


def asked(numbers: Sequence[int]) -> list[ImageTasks]:
    task = LabelTask("key", "road", "the road")
    return [ImageTasks(ImageRef(image(n), image(n), 1, "abc", ""), (task,)) for n in numbers]


def chosen(
    store: Store,
    most: int | None,
    version: str = "m2",
    untouched: Untouched = set,
    numbers: Sequence[int] = range(COUNT),
) -> list[str]:
    told: list[int] = []
    chooser = Chooser(store, ReviewSettings(), version, untouched)
    found = chooser.choose(asked(numbers), most, told.append)
    assert sum(told) <= COUNT
    return found


@pytest.mark.usefixtures("rows")
def test_the_worst_come_first_and_no_more_than_asked(store: Store) -> None:
    assert chosen(store, 3) == [image(299), image(298), image(297)]
    assert chosen(store, None) == [image(number) for number in reversed(range(COUNT))]
    assert chosen(store, 0) == []
    assert chosen(store, 5, numbers=[4, 2]) == [image(4), image(2)]


@pytest.mark.usefixtures("rows")
def test_what_people_touched_is_left_out(store: Store) -> None:
    looked = []

    def untouched(images: Collection[str]) -> set[str]:
        looked.append(len(images))
        return set(images) - {image(299), image(10)}

    found = chosen(store, None, untouched=untouched)
    assert (len(found), found[0]) == (COUNT - 2, image(298))
    assert looked == [256, 44]


def test_what_is_corrected_or_labeled_by_the_version_is_left_out(
    store: Store, rows: list[Prediction]
) -> None:
    newer = replace(rows[298], key="newer", model_version="m2")
    PredictionTables(store).commit([write_shard(store, [newer])])
    CorrectionTable(store).append([_correction(rows[299])])
    assert chosen(store, 1) == [image(297)]
    assert chosen(store, 1, version="m3") == [image(298)]
    assert chosen(store, 1, version="m1") == [image(298)]


def test_queries_that_are_not_asked_do_not_count(store: Store, rows: list[Prediction]) -> None:
    bad = replace(rows[0], key="other", label="sky", query="the sky", predicted_iou=0.0)
    PredictionTables(store).commit([write_shard(store, [bad])])
    assert chosen(store, 1) == [image(299)]


def _correction(row: Prediction) -> Correction:
    return Correction(
        id="1",
        key=row.key,
        project=1,
        task=1,
        annotation=1,
        image_id=row.image_id,
        image=row.image,
        etag=row.etag,
        group=row.group,
        width=row.width,
        height=row.height,
        label=row.label,
        query=row.query,
        model_version=row.model_version,
        arm="shown",
        verdict="accepted",
        present=True,
        mask=row.mask,
        points=(),
        iou=1.0,
        boundary_f=1.0,
        annotator="7",
        seconds=1.0,
        updated_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
