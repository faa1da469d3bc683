"""The table of corrections: the latest revision counts, old versions stay, one writer."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from deltalake import DeltaTable

from pipeline.errors import StoppedError
from pipeline.records import CorrectedPoint, Correction, Prediction
from pipeline.storage.corrections import COMMITTED_AT, CORRECTIONS_SCHEMA, CorrectionTable
from pipeline.storage.store import Store

_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def correct(predict: Callable[[int, str], Prediction]) -> Callable[[int, int], Correction]:
    """Return what a person says of an image at a minute."""

    def make(image: int, minute: int) -> Correction:
        row = predict(image, "road")
        return Correction(
            id=f"annotation {image}",
            key=row.key,
            project=1,
            task=10 + image,
            annotation=100 + image,
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
            verdict="edited",
            present=True,
            mask=row.mask,
            points=(CorrectedPoint(1.5, 2.5, 1, "moved", 3.0, 4.0),),
            iou=0.5,
            boundary_f=0.25,
            annotator="7",
            seconds=12.5,
            updated_at=_BEGIN + timedelta(minutes=minute),
        )

    return make


def test_rows_come_back_as_they_were(
    store: Store, correct: Callable[[int, int], Correction]
) -> None:
    rows = [correct(1, 1), correct(2, 1)]
    assert CorrectionTable(store).append(rows) == 2
    assert list(CorrectionTable(store).latest()) == rows


def test_the_latest_revision_counts_and_is_taken_once(
    store: Store, correct: Callable[[int, int], Correction]
) -> None:
    table = CorrectionTable(store)
    later = replace(correct(1, 2), verdict="skipped")
    assert table.append([correct(1, 1), later]) == 1
    assert table.append([later, correct(1, 1)]) == 0
    assert list(table.latest()) == [later]


def test_images_come_in_the_order_asked_with_their_latest_revisions(
    store: Store, correct: Callable[[int, int], Correction]
) -> None:
    table = CorrectionTable(store)
    other = replace(correct(1, 1), id="other annotation")
    table.append([correct(1, 1), correct(2, 1), other])
    table.append([correct(1, 3), correct(3, 3)])
    images = [correct(number, 1).image_id for number in (3, 4, 1)]
    assert list(table.by_image(images)) == [[correct(3, 3)], [other, correct(1, 3)]]


def test_an_old_version_stays_as_it_was(
    store: Store, correct: Callable[[int, int], Correction]
) -> None:
    table = CorrectionTable(store)
    table.append([correct(1, 1)])
    frozen = table.version
    table.append([correct(1, 2), correct(2, 2)])
    assert list(CorrectionTable(store).latest(frozen)) == [correct(1, 1)]
    assert len(list(table.latest())) == 2


def test_old_versions_stay_readable_however_old_they_are(
    store: Store, correct: Callable[[int, int], Correction]
) -> None:
    at_once = {"delta.logRetentionDuration": "interval 0 days", "delta.checkpointInterval": "2"}
    columns = CORRECTIONS_SCHEMA.append(COMMITTED_AT)
    DeltaTable.create(store.delta_uri("corrections"), columns, configuration=at_once)
    for number in range(6):
        CorrectionTable(store).append([correct(number, 1)])
    assert list(CorrectionTable(store).latest(1)) == [correct(0, 1)]


def test_delta_is_told_to_keep_the_log_by_whoever_appends(store: Store) -> None:
    CorrectionTable(store)
    log = store.get("corrections/_delta_log/00000000000000000000.json").splitlines()
    (made,) = [action["metaData"] for action in map(json.loads, log) if "metaData" in action]
    assert made["configuration"]["delta.enableExpiredLogCleanup"] == "false"


def test_a_second_writer_is_noticed(
    store: Store, correct: Callable[[int, int], Correction]
) -> None:
    first, second = CorrectionTable(store), CorrectionTable(store)
    first.append([correct(1, 1)])
    with pytest.raises(StoppedError, match="another run"):
        second.append([correct(2, 1)])


def test_revisions_and_rows_are_found_by_id(
    store: Store, correct: Callable[[int, int], Correction]
) -> None:
    table = CorrectionTable(store)
    gone = replace(correct(1, 2), verdict="deleted")
    table.append([correct(1, 1), correct(2, 1)])
    table.append([gone, replace(correct(3, 1), id="import 3")])
    found = {row.id: row for row in table.revisions("annotation")}
    assert found.keys() == {"annotation 1", "annotation 2"}
    assert (found["annotation 1"].deleted, found["annotation 2"].deleted) == (True, False)
    assert (found["annotation 1"].task, found["annotation 1"].annotation) == (11, 101)
    assert list(table.find(["annotation 1", "nobody's"])) == [gone]


def test_shared_rows_are_those_of_queries_with_several_annotators(
    store: Store, correct: Callable[[int, int], Correction]
) -> None:
    table = CorrectionTable(store)
    other = replace(correct(1, 3), id="another", annotator="8")
    own = replace(correct(2, 3), id="again")
    assert list(table.shared()) == []
    table.append([correct(1, 1), correct(2, 1), other, own])
    assert {row.id for row in table.shared()} == {"annotation 1", "another"}


def test_news_are_what_can_teach_and_was_not_known(
    store: Store, correct: Callable[[int, int], Correction]
) -> None:
    table = CorrectionTable(store)
    assert table.news(None) == 0
    table.append([correct(1, 1), correct(2, 1), correct(3, 1)])
    known = table.version
    assert (table.news(None), table.news(known)) == (3, 0)
    skipped = replace(correct(5, 2), verdict="skipped")
    deleted = replace(correct(1, 2), verdict="deleted")
    table.append([correct(2, 2), correct(4, 2), skipped, deleted])
    table.append([correct(2, 3)])
    assert (table.news(None), table.news(known)) == (3, 2)
    assert CorrectionTable(store).news(known) == 2


def test_units_are_what_has_a_correction_now(
    store: Store, correct: Callable[[int, int], Correction]
) -> None:
    table = CorrectionTable(store)
    table.append([correct(1, 1), correct(2, 1)])
    table.append([replace(correct(1, 2), verdict="deleted")])
    kept = correct(2, 1)
    assert table.units() == {(kept.image_id, kept.label, kept.query)}
