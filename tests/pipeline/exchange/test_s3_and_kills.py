"""Stores and sources in S3, and imports that are killed between two commits."""

import io
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline import masks
from tests.pipeline.exchange.conftest import HEIGHT, WIDTH, Street, rectangle

if TYPE_CHECKING:
    from tests.conftest import S3Server

ROAD, CAR = rectangle(15, 0, 30, 40), rectangle(12, 5, 20, 12)


def png(pixels: np.ndarray) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def in_s3(street: Street, s3: "S3Server", bucket: str, more: dict[str, bytes]) -> Street:
    """Return the run with its pictures and its store in a bucket."""
    gray = png(np.zeros((HEIGHT, WIDTH), np.uint8))
    pictures = {f"in/{name}": gray for name in ("a/one.png", "a/two #1 %41.png")}
    place = s3.make_bucket(bucket, pictures | more)
    source = {**street.run.source.model_dump(), "images": f"{place}/in"}
    return street.change(source=source, store=f"{place}/store", s3={"endpoint": s3.endpoint})


def test_masks_come_from_s3_and_go_out_again(street: Street, s3: "S3Server") -> None:
    name = "a/two #1 %41.png"
    more = {f"masks/car/{name}": png(CAR), "masks/road/a/one.png": png(ROAD)}
    run = in_s3(street, s3, "exchange", more)
    version = run.bring("s3://exchange/masks", "predictions", fmt="png").model_version
    assert run.export("parquet", version=version, images=True)["images"] == 2
    rows = pq.read_table(street.out / "masks.parquet").to_pylist()
    assert {(row["file_name"], row["label"]) for row in rows} == {
        (name, "car"),
        ("a/one.png", "road"),
    }
    assert rows[0]["uri"].startswith("s3://exchange/in/a/")
    assert (street.out / "images" / name).stat().st_size > 0


KILLED = """
import os, sys
import pipeline.import_masks as spine
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.tables import PredictionTables
spine._ROWS_AT_ONCE = 1
kind, name = {"corrections": (CorrectionTable, "append"), "predictions": (PredictionTables, "commit")}[sys.argv[1]]
real, calls, after = getattr(kind, name), [], sys.argv[2] == "after"
def dying(self, rows):
    calls.append(rows)
    if len(calls) == 2 and not after:
        os._exit(9)
    done = real(self, rows)
    if len(calls) == 2:
        os._exit(9)
    return done
setattr(kind, name, dying)
from pipeline.cli import run
run(["import", *sys.argv[3:], "--as", sys.argv[1], "--format", "png", "--name", "old"])
"""  # noqa: E501


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("target", ["corrections", "predictions"])
def test_an_import_killed_between_commits_goes_on(
    street: Street, target: str, when: str, tmp_path: Path
) -> None:
    for name in ("road/a/one.png", "car/a/one.png", "car/a/two.png"):
        path = tmp_path / "pngs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(CAR))
    pngs = str(tmp_path / "pngs")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, target, when, street.run_file(), pngs],
        cwd=street.folder,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 9, done.stderr
    summary = street.bring(pngs, target, fmt="png")
    there = 1 if when == "before" else 2
    assert (summary.existing, summary.new) == (there, 3 - there)
    rows = (
        street.corrections()
        if target == "corrections"
        else street.predictions(summary.model_version)
    )
    assert len(rows) == 3
    assert all(np.array_equal(masks.decode(row.mask), CAR) for row in rows.values())
