"""Calibrations on a store: numbered, never changed, and turned off for good."""

import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from pipeline.errors import StorageError
from pipeline.review.accepted import AcceptedTable, Decision, has_accepted
from pipeline.review.calibration import AuditStop, Calibration, CalibrationShelf, Isotonic
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import Store, open_store

if TYPE_CHECKING:
    from tests.conftest import S3Server

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def calibration(number: int, model: str = "m") -> Calibration:
    return Calibration(
        number=number,
        model_version=model,
        made_at=NOW,
        corrections=50,
        curve=Isotonic(score=(0.0, 1.0), iou=(0.1, 0.9)),
        acceptance=None,
    )


@pytest.fixture(params=["disk", "s3"])
def any_store(request: pytest.FixtureRequest, store: Store) -> Store:
    if request.param == "disk":
        return store
    server: S3Server = request.getfixturevalue("s3")
    bucket = server.make_bucket(f"shelf-{secrets.token_hex(6)}")
    return open_store(f"{bucket}/runs", S3Settings(endpoint=server.endpoint))


def test_the_latest_of_a_model_counts(any_store: Store) -> None:
    shelf = CalibrationShelf(any_store)
    assert (shelf.latest("m"), shelf.next_number()) == (None, 1)
    for number, model in ((1, "m"), (2, "m"), (3, "other")):
        shelf.write(calibration(number, model))
    assert shelf.latest("m") == calibration(2)
    assert shelf.next_number() == 4


def test_a_number_is_given_once(any_store: Store) -> None:
    CalibrationShelf(any_store).write(calibration(1))
    with pytest.raises(StorageError, match="another process has just calibrated"):
        CalibrationShelf(any_store).write(calibration(1, "other"))
    assert CalibrationShelf(any_store).latest("m") == calibration(1)


def test_a_stop_is_no_calibration_and_stays(any_store: Store) -> None:
    shelf = CalibrationShelf(any_store)
    shelf.write(calibration(1))
    assert shelf.stopped(calibration(1)) is None
    stop = AuditStop(calibration=1, images=9, wrong=5, evidence=99.0, stopped_at=NOW)
    shelf.stop(stop)
    shelf.stop(stop.model_copy(update={"images": 1}))
    assert shelf.stopped(calibration(1)) == stop
    assert shelf.next_number() == 2


def test_only_changes_of_acceptance_are_written(any_store: Store) -> None:
    def decision(key: str, *, accepted: bool) -> Decision:
        return Decision(key, "i", "road", "m", accepted, 0.9, 1)

    assert not has_accepted(any_store)
    table = AcceptedTable(any_store)
    table.note([decision("a", accepted=True), decision("b", accepted=False)])
    assert table.commit() == 1
    table.note([decision("a", accepted=True), decision("b", accepted=False)])
    assert table.commit() == 0
    again = AcceptedTable(any_store)
    assert again.keys() == {"a"}
    again.note([decision("a", accepted=False)])
    assert again.commit() == 1
    assert AcceptedTable(any_store).keys() == set()
    assert has_accepted(any_store)
