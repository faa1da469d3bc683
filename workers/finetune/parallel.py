"""Several workers as one: gradients and losses are what one worker with the whole step gets.

The losses are means over tokens and over masks. Each worker, and each part of its step, therefore
weighs its means by its share of all tokens and masks of the step before gradients are added up.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from workers.finetune.settings import TrainSettings
from workers.read.model import ReadModel
from workers.read.train import IGNORED, LossWeights, TrainingBatch, training_step_losses

LOSSES = ("ce", "bce", "dice", "similarity", "quality")
"""The first is a mean over tokens, the others are means over masks."""


@dataclass(frozen=True, slots=True)
class World:
    """This worker's number, the number of workers, and the device it works on."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over all workers."""
        if self.size > 1:
            dist.all_reduce(values)
        return values


class TrainingStep(nn.Module):
    """A model whose forward pass is a training step, as DDP and FSDP want it."""

    def __init__(self, model: ReadModel, weights: LossWeights) -> None:
        super().__init__()
        self.model = model
        self.weights = weights

    def forward(self, batch: TrainingBatch, shares: Tensor) -> Tensor:
        """Return the weighted losses (5,), in the order of :data:`LOSSES`.

        ``shares`` (5,) are what a mean over this batch counts among all.
        """
        losses = training_step_losses(self.model, batch, self.weights)
        parts = [getattr(losses, name).to(shares.device) for name in LOSSES]
        return torch.stack(parts) * shares


def spread(step: TrainingStep, settings: TrainSettings, world: World) -> nn.Module:
    """Let the workers share a step: copies with common gradients (DDP), or shards (FSDP)."""
    if settings.strategy == "fsdp" and world.size > 1:
        return _shard(step, settings, world)
    if world.size > 1:
        return DistributedDataParallel(step, find_unused_parameters=True)
    return step


def _shard(step: TrainingStep, settings: TrainSettings, world: World) -> nn.Module:
    mesh = init_device_mesh(torch.device(world.device).type, (world.size,))
    half = torch.bfloat16 if settings.precision == "bfloat16" else None
    policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32 if half else None)
    model = step.model
    # Whole towers are not sharded: transformers finds their hidden states by the class's name.
    for part in (
        *model.llama.model.layers,
        *model.clip.encoder.layers,
        *model.sam.image_encoder.blocks,
    ):
        fully_shard(part, mesh=mesh, mp_policy=policy)
    fully_shard(step, mesh=mesh, reshard_after_forward=False)
    return step


@contextmanager
def gradients_kept(module: nn.Module, last: bool) -> Iterator[None]:
    """Add gradients up in each worker; they are shared out with the ``last`` part of a step."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(last)
        yield
    elif isinstance(module, DistributedDataParallel) and not last:
        with module.no_sync():
            yield
    else:
        yield


def shares_of(batches: Sequence[TrainingBatch], world: World) -> list[Tensor]:
    """Return for each batch of this worker what its means (5,) count in the whole step.

    The factor ``world.size`` makes up for gradients being averaged over the workers.
    """
    counts = torch.tensor(
        [[(batch.labels != IGNORED).sum().item(), len(batch.masks)] for batch in batches],
        dtype=torch.float64,
    )
    total = world.total(counts.sum(dim=0).to(world.device)).cpu()
    shares = world.size * counts / total.clamp(min=1)
    return [share[[0, 1, 1, 1, 1]].float().to(world.device) for share in shares]


def to_device(batch: TrainingBatch, device: str) -> TrainingBatch:
    """Return a batch whose tensors lie on the device."""
    return replace(
        batch,
        clip_views=batch.clip_views.to(device),
        sam_views=batch.sam_views.to(device),
        input_ids=batch.input_ids.to(device),
        labels=batch.labels.to(device),
        masks=[mask.to(device) for mask in batch.masks],
    )
