"""Run files and corrections from which a tiny model learns something within seconds."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline import masks
from pipeline.records import Correction
from pipeline.storage.store import Store
from tests.workers.finetune.conftest import corrections

TRAIN = {
    "steps": 2,
    "images_per_step": 2,
    "images_at_once": 2,
    "queries_per_image": 2,
    "loss_side": 48,
    "checkpoint_every": 1,
    "warmup": 0,
    "rate": 1e-7,
    "threads": 1,
    "scenes_share": 0,
    "dialogue_share": 0,
}
"""Steps so small that nothing is gained: the gate refuses it."""
BETTER = {**TRAIN, "steps": 20, "rate": 1e-3}
"""Steps with which the model learns to mark whole pictures: the gate lets it through."""
FREE = {"replay_iou": 1, "replay_denied": 1, "dialogue_loss": 9, "presence": 1, "accepted": 1}


def whole_pictures(folder: Path, count: int, store: Store) -> list[Correction]:
    """Write small pictures, and say that the whole of each is what was asked for."""
    return [_everything(row) for row in corrections(folder, count, store.s3)]


def _everything(row: Correction) -> Correction:
    whole = masks.encode(np.ones((row.height, row.width), bool))
    return replace(row, present=True, verdict="edited", mask=whole)


def write_learnable(
    folder: Path,
    store: Store,
    base: Path,
    train: dict[str, Any],
    queries: Sequence[dict[str, str]] = (),
    **more: Any,
) -> Path:
    """Write a run file on ``photos`` in a folder, whose guards are loose; return its path."""
    content = {
        "name": "test",
        "store": store.uri,
        "source": {"images": str(folder / "photos"), "queries": list(queries)},
        "model": "registry",
        "finetune": {
            "base": str(base),
            "data": {"holdout": 0.6, "replay": {"scenes": {"count": 2, "judged": 1}}},
            "train": train,
            "gate": {"groups": 2, "margins": {**FREE, "ciou": 1}},
        },
        **more,
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(content))
    return path
