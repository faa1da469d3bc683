"""A replica without Ray: rows, failures, and what ends its process."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from pipeline import masks
from pipeline.errors import ModelUnusableError
from pipeline.records import Failure, ImageTasks, Prediction
from pipeline.storage.store import ObjectReader, open_store
from pipeline.storage.tables import PredictionTables
from workers.actor import LabelJob, Replica
from workers.attempts import AttemptBook
from workers.rows import shards_from_table, tasks_to_table

MakeImages = Callable[..., list[ImageTasks]]
MakeJob = Callable[..., LabelJob]


class ProcessEndedError(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def _survivable(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(code: int) -> NoReturn:
        raise ProcessEndedError(code)

    monkeypatch.setattr(os, "_exit", end)


def rows_of(job: LabelJob, work: list[ImageTasks]) -> dict[str, Prediction | Failure]:
    """Label with a fresh replica, commit, and return the rows by query."""
    shard = Replica(job, AttemptBook(10)).label(work)
    tables = PredictionTables(open_store(job.store, job.s3))
    tables.commit([shard])
    keys = [task.key for image in work for task in image.tasks]
    rows = [row for rows in tables.read_by_image(keys) for row in rows]
    return {row.query: row for row in [*rows, *tables.failures(keys)]}


def test_every_field_of_a_prediction_comes_from_image_task_and_answer(
    images: MakeImages, job: MakeJob
) -> None:
    (work,) = images(1, "bright")
    row = rows_of(job(), [work])["bright"]
    assert isinstance(row, Prediction)
    assert (row.key, row.label) == (work.tasks[0].key, "l0")
    assert (row.image, row.image_size) == (work.image.uri, work.image.size)
    assert (row.width, row.height) == (12, 8)
    assert (row.answer, row.present, row.seg_probability) == ("It is [SEG].", True, 0.9)
    assert masks.decode(row.mask).shape == (8, 12)
    assert 0 < masks.area(row.mask) < 8 * 12
    assert [(p.x, p.y, p.label) for p in row.points] == [(0.5, 1.5, 1), (6.0, 2.0, -1)]
    assert [len(vector) for vector in row.seg_vectors] == [256]
    assert (row.predicted_iou, row.stability) == (0.75, 0.5)
    assert (row.timings.encode, row.timings.answer, row.timings.mask) == (0.25, 0.5, 0.125)


def test_an_absent_object_has_an_empty_mask_of_the_image_size(
    images: MakeImages, job: MakeJob
) -> None:
    row = rows_of(job(), images(1, "no such thing"))["no such thing"]
    assert isinstance(row, Prediction)
    assert not row.present
    assert masks.decode(row.mask).shape == (8, 12)
    assert (masks.area(row.mask), row.points, row.seg_vectors) == (0, (), ())


def test_masks_of_several_seg_tokens_are_united(job: MakeJob, images: MakeImages) -> None:
    (work,) = images(1, "bright")
    engine = job().load_engine()

    class Doubled(type(engine)):  # type: ignore[misc]
        def predict(self, image: np.ndarray, queries: list[str], **bounds: int) -> list[object]:
            (answer,) = super().predict(image, queries, **bounds)
            (segment,) = answer.segments
            rest = replace(segment, mask=~segment.mask, predicted_iou=0.25, stability=0.125)
            return [replace(answer, segments=(segment, rest))]

    row = rows_of(job(Doubled), [work])["bright"]
    assert isinstance(row, Prediction)
    assert masks.decode(row.mask).all()
    assert (row.predicted_iou, row.stability) == (0.25, 0.125)
    assert (len(row.points), len(row.seg_vectors)) == (4, 2)


def test_bad_queries_fail_alone_and_say_why(images: MakeImages, job: MakeJob) -> None:
    work = images(1, "bright", "", "  ", "x" * 41, "raise RuntimeError", "raise MemoryError")
    rows = rows_of(job(), work)
    assert isinstance(rows["bright"], Prediction)
    failed = {query: row for query, row in rows.items() if isinstance(row, Failure)}
    assert {query: row.stage for query, row in failed.items()} == {
        "": "query",
        "  ": "query",
        "x" * 41: "query",
        "raise RuntimeError": "predict",
        "raise MemoryError": "predict",
    }
    assert "41 characters" in failed["x" * 41].reason
    assert [query for query, row in failed.items() if row.retryable] == ["raise MemoryError"]


def test_a_missing_image_and_one_that_is_none_fail_at_their_stage(
    images: MakeImages, job: MakeJob
) -> None:
    gone, text, fine = images(3, "bright")
    job_ = job()
    Path(gone.image.uri.removeprefix("file://")).unlink()
    Path(text.image.uri.removeprefix("file://")).write_bytes(b"not a picture")
    shard = Replica(job_, AttemptBook(10)).label([gone, text, fine])
    assert (shard.images, shard.present, shard.failed) == (3, 1, 2)
    tables = PredictionTables(open_store(job_.store, job_.s3))
    tables.commit([shard])
    failures = {row.image: row for row in tables.failures(t.tasks[0].key for t in (gone, text))}
    assert failures[gone.image.uri].stage == "fetch"
    assert failures[text.image.uri].stage == "decode"


def is_done(job: LabelJob, work: ImageTasks) -> bool:
    """Label an image, commit, and return whether a later run leaves it out."""
    rows_of(job, [work])
    (task,) = work.tasks
    return PredictionTables(open_store(job.store, job.s3)).is_done(task.key)


def test_a_listed_image_that_cannot_be_read_is_asked_again_until_it_can(
    images: MakeImages, job: MakeJob, tmp_path: Path
) -> None:
    (never_found,) = images(1, "bright")
    etag = ObjectReader(job().s3).head(never_found.image.uri).etag
    listed = replace(never_found, image=replace(never_found.image, etag=etag))
    mount, away = tmp_path / "images", tmp_path / "away"
    mount.rename(away)
    assert is_done(job(store="other"), never_found)
    assert not is_done(job(), listed)
    mount.write_bytes(b"a file where the folder was")
    assert not is_done(job(), listed)
    mount.unlink()
    away.rename(mount)
    assert is_done(job(), listed)


@pytest.mark.usefixtures("_survivable")
@pytest.mark.parametrize("kind", ["AcceleratorError", "OSError"])
def test_a_fault_that_is_not_the_rows_ends_the_process_twice_and_then_fails_the_image(
    images: MakeImages, job: MakeJob, kind: str
) -> None:
    book, work = AttemptBook(10), images(1, f"raise {kind}", "bright")
    for _ in range(2):
        with pytest.raises(ProcessEndedError):
            Replica(job(), book).label(work)
    shard = Replica(job(), book).label(work)
    assert (shard.present, shard.failed) == (0, 2)


def test_another_model_than_planned_is_refused(images: MakeImages, job: MakeJob) -> None:
    replica = Replica(replace(job(), model_version="older"), AttemptBook(10))
    with pytest.raises(ModelUnusableError, match="planned for"):
        replica.label(images(1, "bright"))


def test_a_model_that_cannot_be_loaded_is_reported_as_data(
    images: MakeImages, job: MakeJob
) -> None:
    def refuse() -> NoReturn:
        raise ModelUnusableError("no weights at all")

    report = Replica(job(refuse), AttemptBook(10))(tasks_to_table(images(1, "bright")))
    with pytest.raises(ModelUnusableError, match="no weights at all"):
        list(shards_from_table(report))


@pytest.mark.usefixtures("_survivable")
def test_a_model_whose_loading_always_ends_the_process_is_given_up(
    images: MakeImages, job: MakeJob
) -> None:
    def crash() -> NoReturn:
        raise SystemError("libcuda is gone")

    book, work = AttemptBook(3), images(1, "bright")
    for _ in range(4):
        with pytest.raises(ProcessEndedError):
            Replica(job(crash), book).label(work)
    with pytest.raises(ModelUnusableError, match="libcuda is gone"):
        Replica(job(crash), book).label(work)
