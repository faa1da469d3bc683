"""Annotators against a real Label Studio: what they see first, leave, and what is collected."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from pydantic import SecretStr

from benchmarks.camvid.annotators import Annotators, Corrected
from benchmarks.camvid.checks import check_corrections
from benchmarks.camvid.photos import Photo, Truth
from labelstudio.client import LabelStudioClient
from labelstudio.collecting.collect import Collector, Tally
from labelstudio.publishing.publish import publish
from labelstudio.publishing.showing import Showing
from labelstudio.settings import LabelStudioSettings
from pipeline import masks
from pipeline.errors import InputError
from pipeline.records import Correction, Prediction
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.settings import S3Settings
from pipeline.storage.shards import write_shard
from pipeline.storage.store import Store, open_store
from pipeline.storage.tables import PredictionTables
from tests.benchmarks.test_camvid_measures import mask, prediction

if TYPE_CHECKING:
    from labelstudio.server import LabelStudioServer

LABELS = ("road", "sky", "car", "tree", "sign")
SHOWN = {
    "road": mask("##..", "#..#"),
    "sky": None,
    "car": mask("#...", "...."),
    "tree": mask("....", "..#."),
    "sign": None,
}
TRUTH = Truth(
    {
        "road": mask("##..", "##.."),
        "sky": mask("..#.", "...."),
        "car": mask("....", "...."),
        "tree": mask("....", "..#."),
        "sign": mask("....", "...."),
    },
    mask("####", "###."),
)
VERDICTS = {
    "road": "edited",
    "sky": "redrawn",
    "car": "absent",
    "tree": "accepted",
    "sign": "accepted",
}
SCORES = {"a": 0.7, "b": 0.2, "c": 0.9, "d": 0.4}


def shown(folder: Path, name: str) -> list[Prediction]:
    path = folder / f"{name}.png"
    Image.new("RGB", (4, 2)).save(path)
    rows = [prediction(label, SHOWN[label]) for label in LABELS]
    return [
        replace(row, key=f"{name} {row.label}", image_id=path.as_uri(), image=path.as_uri())
        for row in rows
    ]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"), S3Settings())


@pytest.fixture
def settings(label_studio: "LabelStudioServer", tmp_path: Path) -> LabelStudioSettings:
    return LabelStudioSettings(url=label_studio.url, project=f"people {tmp_path.name}"[-40:])


@pytest.fixture
def people(
    label_studio: "LabelStudioServer", settings: LabelStudioSettings, store: Store, tmp_path: Path
) -> Annotators:
    """Annotators of four published pictures with scores of their own."""
    (tmp_path / "photos").mkdir()
    images = [shown(tmp_path / "photos", name) for name in SCORES]
    PredictionTables(store).commit([write_shard(store, [row for rows in images for row in rows])])

    def score(rows: Sequence[Prediction]) -> float:
        return SCORES[rows[0].key[0]]

    summary = publish(
        images,
        run="people",
        settings=settings,
        token=SecretStr(label_studio.token),
        store=store,
        s3=S3Settings(),
        labels=LABELS,
        progress=lambda _: None,
        showing=Showing(score),
    )
    return Annotators(label_studio.url, label_studio.token, summary.projects[0])


def correct(people: Annotators, *names: str) -> list[Corrected]:
    tasks = people.tasks()
    photos = {tasks[name]: Photo(name, Path(), Path(), name) for name in names}
    return people.correct(photos, lambda _: TRUTH, lambda _: None)


def collect(label_studio: "LabelStudioServer", settings: LabelStudioSettings, store: Store) -> None:
    client = LabelStudioClient(label_studio.url, SecretStr(label_studio.token))
    Collector(client, settings, store, lambda _: None).poll(Tally())


def test_what_people_submit_in_the_order_of_scores_is_collected_as_they_meant_it(
    people: Annotators,
    label_studio: "LabelStudioServer",
    settings: LabelStudioSettings,
    store: Store,
) -> None:
    with people:
        assert people.untouched() == ["b", "d", "a", "c"]
        found = correct(people, "b", "d")
        assert people.untouched() == ["a", "c"]
        # road: one pixel is missing; sky: one; car: one to erase. The void pixel counts nowhere.
        assert found == [Corrected(name, VERDICTS, 3) for name in ("b", "d")]
        assert correct(people, "b", "d") == found
    collect(label_studio, settings, store)
    rows = list(CorrectionTable(store).latest())
    assert len(rows) == 2 * len(LABELS)
    for row in rows:
        assert row.verdict == VERDICTS[row.label]
        assert np.array_equal(masks.decode(row.mask), TRUTH.masks[row.label])
    check_corrections(store, found, {"b": TRUTH, "d": TRUTH})


def changed(row: Correction, **changes: object) -> Correction:
    return replace(row, id=f"{row.id} other", **changes)


def test_what_was_collected_otherwise_is_refused_by_picture_and_class(
    people: Annotators,
    label_studio: "LabelStudioServer",
    settings: LabelStudioSettings,
    store: Store,
) -> None:
    with people:
        found = correct(people, "a")
        with pytest.raises(InputError, match="a, road: no correction was collected"):
            check_corrections(store, found, {"a": TRUTH})
    collect(label_studio, settings, store)
    other = replace(TRUTH, masks={**TRUTH.masks, "road": mask("##..", "#...")})
    with pytest.raises(InputError, match="a, road: the collected mask is not"):
        check_corrections(store, found, {"a": other})
    said = [replace(found[0], verdicts={**VERDICTS, "sky": "edited"})]
    with pytest.raises(InputError, match="a, sky: collected as redrawn, not edited"):
        check_corrections(store, said, {"a": TRUTH})
    row = next(row for row in CorrectionTable(store).latest() if row.label == "sign")
    CorrectionTable(store).append([changed(row)])
    with pytest.raises(InputError, match="a, sign: is in the table of corrections twice"):
        check_corrections(store, found, {"a": TRUTH})
