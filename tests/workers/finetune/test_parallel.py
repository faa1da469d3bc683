"""Two workers do what one does: the same losses step by step, and nearly the same weights."""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from pipeline.storage.store import Store
from workers.finetune.loop import read_result, train
from workers.finetune.parallel import World
from workers.finetune.records import FinetuneJob
from workers.finetune.settings import TrainSettings

Jobs = Callable[..., FinetuneJob]
KEYS = ("ce", "bce", "dice", "readout", "norm")
GROUP = Path(__file__).with_name("group.py")
ALIKE = {
    "steps": 3,
    "images_per_step": 4,
    "images_at_once": 1,
    "lora": {"dropout": 0.0},
    "parts": [*TrainSettings().parts, "image_encoder"],
    "readouts": {"images": 2},
}


def losses(store: Store, name: str) -> list[list[float]]:
    lines = store.get(f"training/{name}/curve.jsonl").decode().splitlines()
    return [[json.loads(line)[key] for key in KEYS] for line in lines]


def test_two_workers_equal_one_with_copies_and_with_shards(
    store: Store, job: Jobs, tmp_path: Path
) -> None:
    train(job("training/one", **ALIKE), World(), lambda _: None)
    paths = []
    for strategy in ("ddp", "fsdp"):
        path = tmp_path / strategy
        two = job(f"training/{strategy}", workers=2, strategy=strategy, **ALIKE)
        path.write_bytes(pickle.dumps(two))
        paths.append(str(path))
    group = [
        subprocess.Popen([sys.executable, str(GROUP), str(rank), str(tmp_path / "meeting"), *paths])
        for rank in range(2)
    ]
    assert [worker.wait(timeout=400) for worker in group] == [0, 0]
    one = read_result(store, "training/one")
    assert one
    assert store.address.local
    models = store.address.local / "models"
    alone = load_file(models / one.version / "model.safetensors")
    for strategy in ("ddp", "fsdp"):
        for ours, theirs in zip(losses(store, strategy), losses(store, "one"), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-3)
        result = read_result(store, f"training/{strategy}")
        assert result
        assert (result.images, result.rows) == (one.images, one.rows)
        together = load_file(models / result.version / "model.safetensors")
        for key, value in alone.items():
            difference = (together[key].float() - value.float()).abs()
            assert float(difference.max()) <= 4e-3, key
            assert float(difference.mean()) <= 1e-5, key
