"""A job whose store is in S3."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.fs
import pytest

from pipeline.learning.freeze import Freezer
from pipeline.learning.settings import DataSettings
from pipeline.progress import Progress
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import open_store
from tests.workers.finetune.conftest import corrections
from tests.workers.finetune.test_loop import Jobs
from workers.finetune.job import _ray_storage
from workers.finetune.loop import read_result, train
from workers.finetune.parallel import World
from workers.models import plan_model

if TYPE_CHECKING:
    from tests.conftest import S3Server


def test_states_curves_and_the_checkpoint_lie_in_the_bucket(
    s3: "S3Server", job: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    settings = S3Settings(endpoint=s3.endpoint)
    store = open_store(f"{s3.make_bucket('finetune')}/runs", settings)
    CorrectionTable(store).append(corrections(tmp_path / "more", 4, settings))
    snapshot = Freezer(store, DataSettings(), Progress()).freeze("", None)
    here = job(steps=2, images_per_step=1, dialogue_share=0)
    there = replace(here, store=store.uri, s3=settings, snapshot=snapshot.name)
    train(there, World(), lambda _: None)
    result = read_result(store, there.folder)
    assert result
    planned = plan_model(f"{store.uri}/models/{result.version}", settings, "float32")
    assert planned.version == result.version
    names = {info.uri.split("/")[6] for info in store.list("training")}
    assert names == {"curve.jsonl", "tensorboard", "result.json"}

    path, filesystem = _ray_storage(store, there.folder)
    assert filesystem
    found = filesystem.get_file_info(pyarrow.fs.FileSelector(path))
    assert {info.base_name for info in found} >= {"curve.jsonl", "result.json"}
