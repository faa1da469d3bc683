"""``readloop label`` end to end: bad input, being stopped, being killed."""

import csv
import io
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from PIL import Image

from pipeline import masks
from pipeline.records import Rle
from workers.scenes import write_scenes

if TYPE_CHECKING:
    from tests.e2e.conftest import Readloop

SIZE = (120, 80)


def picture(mode: str = "RGB") -> Image.Image:
    """A picture of (width, height) = SIZE with a bright square on a dark ground."""
    pixels = np.full((SIZE[1], SIZE[0], 3), 40, np.uint8)
    pixels[20:50, 30:60] = (220, 40, 40)
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned() -> bytes:
    """A JPEG whose EXIF says that it has to be turned by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture(), "JPEG", exif=exif)


def sixteen_bits() -> bytes:
    gray = np.asarray(picture("L"), np.uint16) * 257
    return encoded(Image.fromarray(gray), "PNG")


BAD = {
    "no_image.jpg": b"this is no picture",
    "truncated.jpg": encoded(picture(), "JPEG")[:-200],
    "empty.png": b"",
    "huge.png": encoded(Image.new("RGB", (1200, 1000)), "PNG"),
}
GOOD = {
    "plain.png": encoded(picture(), "PNG"),
    "print.jpg": encoded(picture("CMYK"), "JPEG"),
    "deep.png": sixteen_bits(),
    "turned.jpg": turned(),
}
QUERIES = {"": "query", "x" * 10_000: "query", "the red square": None}


@pytest.fixture
def bad_manifest(tmp_path: Path) -> Path:
    """A manifest of good and bad pictures, a missing one, and bad queries on a good one."""
    for name, content in {**BAD, **GOOD}.items():
        (tmp_path / name).write_bytes(content)
    path = tmp_path / "manifest.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "query", "label"])
        rows.writerows([name, "the red square", "square"] for name in (*BAD, *GOOD, "gone.png"))
        rows.writerows(["plain.png", query, f"q{len(query)}"] for query in ("", "x" * 10_000))
    return path


def table(store: Path, name: str) -> list[dict]:
    return pa.table(DeltaTable(str(store / name)).scan().read_all()).to_pylist()


def test_bad_images_and_queries_are_recorded_and_the_rest_is_labeled(
    readloop_on_nodes: "Readloop", bad_manifest: Path, tmp_path: Path
) -> None:
    run = readloop_on_nodes.write_run(bad_manifest, [], limits={"image_pixels": 1_000_000})
    done = readloop_on_nodes("label", run, "--json")
    assert done.code == 2, done.stderr
    assert done.result
    counts = {key: done.result[key] for key in ("images", "queries", "failed", "skipped")}
    assert counts == {"images": 9, "queries": 11, "failed": 7, "skipped": 0}
    assert done.result["present"] + done.result["absent"] == 4

    failures = table(tmp_path / "store", "failures")
    stages = {(Path(row["image"]).name, len(row["query"])): row["stage"] for row in failures}
    asked = len("the red square")
    assert stages == {
        **{(name, asked): "decode" for name in BAD},
        ("gone.png", asked): "fetch",
        ("plain.png", 0): "query",
        ("plain.png", 10_000): "query",
    }
    assert all(row["reason"] for row in failures)

    rows = {Path(row["image"]).name: row for row in table(tmp_path / "store", "predictions")}
    assert rows.keys() == GOOD.keys()
    upright = rows["turned.jpg"]
    assert (upright["width"], upright["height"]) == SIZE[::-1]
    assert masks.decode(Rle(**upright["mask"])).shape == SIZE

    again = readloop_on_nodes("label", run, "--json")
    assert (again.code, again.result and again.result["failed"]) == (2, 7)
    assert len(table(tmp_path / "store", "predictions")) == len(rows)


def test_a_run_that_is_stopped_and_then_killed_loses_and_doubles_nothing(
    readloop_on_nodes: "Readloop", tmp_path: Path
) -> None:
    write_scenes(7, 16, tmp_path / "scenes")
    run = readloop_on_nodes.write_run(tmp_path / "scenes" / "images", ["the star", "the sky"])
    store = tmp_path / "store"

    stopped = readloop_on_nodes.start("label", run, "--json")
    _wait_for_shards(store, 2)
    stopped.send_signal(signal.SIGTERM)
    out, err = stopped.communicate(timeout=300)
    assert (stopped.returncode, out) == (3, ""), err
    assert "run again" in err
    committed = {row["key"]: row for row in table(store, "predictions")}
    assert 4 <= len(committed) < 32

    killed = readloop_on_nodes.start("label", run, "--json")
    _wait_for_shards(store, 2)
    killed.kill()
    killed.communicate(timeout=300)

    done = readloop_on_nodes("label", run, "--json")
    assert done.code == 0, done.stderr
    assert done.result
    assert done.result["queries"] == done.result["present"] + done.result["absent"] == 32
    assert done.result["skipped"] >= len(committed) + 4
    rows = table(store, "predictions")
    assert len(rows) == len({row["key"] for row in rows}) == 32
    kept = {row["key"]: row for row in rows if row["key"] in committed}
    assert kept == committed

    again = readloop_on_nodes("label", run, "--json")
    assert again.result
    assert (again.result["skipped"], again.result["pushed"]) == (32, 0)


def _wait_for_shards(store: Path, count: int) -> None:
    for _ in range(6000):
        if len(list(store.glob("shards/predictions/*.parquet"))) >= count:
            return
        time.sleep(0.05)
    pytest.fail("no shards appeared")
