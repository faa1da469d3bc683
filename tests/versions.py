"""Two versions of the tiny model in a store's registry, whose answers can be told apart."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from pipeline.records import CurrentModel
from pipeline.registry.lineage import Lineage
from pipeline.registry.registry import Registry
from pipeline.storage.store import Store
from workers.read.identity import fingerprint

IOU_SHIFT = -0.25
"""What the second version thinks of its masks, less what the first does; nothing else differs."""
_BIAS = "model.visual_model.mask_decoder.iou_prediction_head.layers.2.bias"


def less_sure(tiny: Path, folder: Path) -> Path:
    """Copy a checkpoint into a folder that is not there, with another bias of predicted IoU."""
    shutil.copytree(tiny, folder)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors[_BIAS] = tensors[_BIAS] + torch.tensor(IOU_SHIFT, dtype=tensors[_BIAS].dtype)
    save_file(tensors, file)
    return folder


def record(store: Store, folder: Path) -> str:
    """Put a checkpoint into the registry; return its version."""
    version, registry = fingerprint(folder), Registry(store)
    registry.upload(folder, version)
    registry.record(Lineage(version, "", "", str(folder), "test", datetime.now(UTC)))
    return version


def make_current(store: Store, version: str) -> CurrentModel:
    """Promote a version, as whoever promotes does it."""
    registry = Registry(store)
    entry = registry.move(version, "promote", registry.current())
    return CurrentModel(entry.number, entry.version, registry.weights(entry.version))
