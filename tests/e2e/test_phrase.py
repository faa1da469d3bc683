"""``readloop phrase`` end to end: the tiny model, and a query that means nothing to it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from pipeline import masks
from pipeline.records import Correction
from pipeline.sources.settings import SourceSettings
from pipeline.sources.tasks import image_tasks
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import open_store
from workers.scenes import EASY, describe, render

if TYPE_CHECKING:
    from tests.e2e.conftest import Readloop

IMAGES = 24
KNOBS = replace(EASY, objects=(3, 4), distinct=True)
RUN = """\
name: phrase     # what this is called
store: {store}
source:
  images: {photos}
  queries:
    # nobody knows what that is
    - {{label: green, text: zxq thing, wordings: [the green object]}}
    - {{label: sky, text: the sky}}   # never there
model: {model}
pool: {{replicas: 1, images_per_batch: 4}}
"""


def green_scenes() -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """Yield pictures with exactly one green object, and its mask."""
    for index in range(1000):
        _, objects, _ = describe(4001, index, KNOBS)
        green = [number for number, thing in enumerate(objects) if thing.color == "green"]
        if len(green) == 1:
            scene = render(4001, index, KNOBS, max_side=224)
            yield scene.image, scene.masks[green[0]]


@pytest.fixture
def run_file(readloop_on_nodes: "Readloop", repository: Path) -> Path:
    """A run on pictures with a green object each, all of them corrected."""
    folder = readloop_on_nodes.folder
    photos, store = folder / "photos", folder / "store"
    photos.mkdir()
    truths = {}
    for number, (picture, mask) in zip(range(IMAGES), green_scenes(), strict=False):
        Image.fromarray(picture).save(photos / f"{number:02d}.png")
        truths[f"{number:02d}.png"] = mask
    path = folder / "run.yaml"
    model = repository / "configs" / "models" / "tiny"
    path.write_text(RUN.format(store=store, photos=photos, model=model), encoding="utf-8")
    asked = SourceSettings.model_validate(yaml.safe_load(path.read_text())["source"])
    rows = [
        corrected(work.image.id, work.image.etag, task.key, truths[Path(work.image.id).name])
        for work in image_tasks(asked, S3Settings(), "m", "{}")
        for task in work.tasks
        if task.label == "green"
    ]
    CorrectionTable(open_store(str(store), S3Settings())).append(rows)
    return path


def corrected(image: str, etag: str, key: str, mask: NDArray[np.bool_]) -> Correction:
    """A person has drawn the green object."""
    height, width = mask.shape
    return Correction(
        id=f"annotation of {key}",
        key=key,
        project=1,
        task=1,
        annotation=1,
        image_id=image,
        image=image,
        etag=etag,
        group="scenes",
        width=width,
        height=height,
        label="green",
        query="zxq thing",
        model_version="m",
        arm="shown",
        verdict="redrawn",
        present=True,
        mask=masks.encode(mask),
        points=(),
        iou=0.0,
        boundary_f=0.0,
        annotator="7",
        seconds=30.0,
        updated_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_a_wording_that_the_model_understands_is_found_and_written(
    readloop_on_nodes: "Readloop", run_file: Path
) -> None:
    before = run_file.read_text(encoding="utf-8")
    first = readloop_on_nodes("phrase", run_file, "--json")
    assert first.code == 0, first.stderr
    assert first.result
    (found,) = first.result["labels"]
    assert (found["label"], found["before"], found["after"]) == (
        "green",
        "zxq thing",
        "the green object",
    )
    assert (found["chosen_on"], found["judged"], found["failed"]) == (12, 12, 0)
    assert found["better"]
    assert found["gain_ci"][0] > 0.2
    assert found["gain"] == pytest.approx(found["iou_after"] - found["iou_before"])
    assert "every zxq thing" in [score["text"] for score in found["tried"]]
    assert first.result["written"] is False
    assert run_file.read_text(encoding="utf-8") == before

    second = readloop_on_nodes("phrase", run_file, "--label", "green", "--json", "--write")
    assert second.code == 0, second.stderr
    assert second.result
    assert second.result["labels"] == first.result["labels"]
    assert "queries labeled" not in second.stderr
    assert second.result["written"] is True
    assert run_file.read_text(encoding="utf-8") == before.replace(
        "text: zxq thing", "text: the green object"
    )
    assert "+    - {label: green, text: the green object," in second.result["diff"]

    refused = readloop_on_nodes("phrase", run_file, "--label", "sky", "--json")
    assert refused.code == 1
    assert "sky: 0" in refused.stderr
