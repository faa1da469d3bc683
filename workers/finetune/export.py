"""From what was learned to a checkpoint in the released layout, and the proof that both agree."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from workers.finetune.building import build_model, loss_weights
from workers.finetune.records import MergeCheck
from workers.finetune.settings import TrainSettings
from workers.read.checkpoint import load_model
from workers.read.keys import released_tensors
from workers.read.lora import NAME, adapted_layers, merge
from workers.read.model import ReadModel
from workers.read.train import TrainingBatch, training_step_losses
from workers.read.weights import read_tensors
from workers.tiny.export import export as write_checkpoint

_SMALLEST = 1e-30


@torch.no_grad()
def export(
    start: Path,
    learned: Mapping[str, Tensor],
    settings: TrainSettings,
    probe: TrainingBatch,
    folder: Path,
) -> MergeCheck:
    """Merge what was learned into the checkpoint it began with, store that, and compare.

    In float32 whatever the training's precision: a sum that is rounded to bfloat16 would change the
    loss by more than the order of sums does.

    Args:
        start: the checkpoint that the training began with.
        learned: weights by their names in the model, adapters among them.
        settings: of the training.
        probe: a batch whose loss is compared before merging, after it, and after storing.
        folder: gets the new checkpoint.
    """
    exact = {"strategy": "ddp", "gradient_checkpointing": False, "precision": "float32"}
    model = build_model(start, settings.model_copy(update=exact), "cpu").eval()
    _fill(model, learned)
    trained = _loss(model, probe, settings)
    adapted = _sums(model)
    merge(model)
    merged = _loss(model, probe, settings)
    write_checkpoint(model, start, folder)
    error = _weight_error(model, adapted, folder)
    del model, adapted  # memory need not hold two models
    stored = _loss(load_model(folder), probe, settings)
    return MergeCheck(error, abs(merged - trained), abs(stored - trained))


def _fill(model: ReadModel, learned: Mapping[str, Tensor]) -> None:
    names = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert names == set(learned), "what was learned is what learns"
    model.load_state_dict(dict(learned), strict=False)


def _loss(model: ReadModel, probe: TrainingBatch, settings: TrainSettings) -> float:
    return float(training_step_losses(model, probe, loss_weights(settings)).loss)


@dataclass(frozen=True, slots=True)
class _Sum:
    """Base plus adapter of a layer, and the sum of their magnitudes, both in float64.

    Rounding is relative to the latter where the two nearly cancel.
    """

    value: Tensor
    scale: Tensor


def _sums(model: ReadModel) -> dict[str, _Sum]:
    """Return base plus adapter of each adapted layer, by hand."""
    sums = {}
    for name, layer in adapted_layers(model):
        base = layer.get_base_layer()
        assert isinstance(base, nn.Linear)
        wide, narrow = layer.lora_B[NAME], layer.lora_A[NAME]
        assert isinstance(wide, nn.Linear)
        assert isinstance(narrow, nn.Linear)
        change = (
            layer.lora_alpha[NAME] / layer.r[NAME] * wide.weight.double() @ narrow.weight.double()
        )
        weight = base.weight.double()
        sums[f"llama.{name}.weight"] = _Sum(weight + change, weight.abs() + change.abs())
    return sums


def _weight_error(model: ReadModel, adapted: Mapping[str, _Sum], folder: Path) -> float:
    """Return the largest difference of a stored weight from what it should be, as a share of it.

    Where base and adapter nearly cancel, it is a share of their magnitudes.
    """
    plain = model.state_dict()
    values = {**plain, **{name: one.value for name, one in adapted.items()}}
    scales = {**plain, **{name: one.scale for name, one in adapted.items()}}
    worst = 0.0
    for place, expected, scale in zip(
        (folder, folder / "clip"), released_tensors(values), released_tensors(scales), strict=True
    ):
        found = dict(read_tensors(place))
        assert found.keys() == expected.keys(), "every weight is stored, and nothing else"
        for key, value in expected.items():
            difference = (found[key].double() - value.double()).abs()
            share = difference / scale[key].double().abs().clamp(min=_SMALLEST)
            worst = max(worst, float(share.max()))
    return worst
