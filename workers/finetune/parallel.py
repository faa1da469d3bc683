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
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from workers.finetune.building import loss_weights
from workers.finetune.readouts import Reading, ReadOuts
from workers.finetune.settings import TrainSettings
from workers.read.model import ReadModel
from workers.read.train import IGNORED, LossWeights, TrainingBatch, training_step_losses

LOSSES = ("ce", "bce", "dice", "similarity", "quality", "readout")
"""The first is a mean over tokens, the last over pictures to read, the others over masks."""


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


@dataclass(frozen=True, slots=True)
class StepPart:
    """What a worker works on at a time: rows about pictures, pictures for encoders alone, or both.

    It has at least one of the two.
    """

    batch: TrainingBatch | None
    reading: Reading | None = None

    def to(self, device: str) -> "StepPart":
        """Return the part on a device."""
        return StepPart(
            None if self.batch is None else _moved(self.batch, device),
            None if self.reading is None else self.reading.to(device),
        )


def _moved(batch: TrainingBatch, device: str) -> TrainingBatch:
    return replace(
        batch,
        clip_views=batch.clip_views.to(device),
        sam_views=batch.sam_views.to(device),
        input_ids=batch.input_ids.to(device),
        labels=batch.labels.to(device),
        masks=[mask.to(device) for mask in batch.masks],
    )


class TrainingStep(nn.Module):
    """A model whose forward pass is a training step, as DDP and FSDP want it.

    ``readouts`` learn with the model; ``readout_weight`` is that of their loss.
    """

    def __init__(
        self,
        model: ReadModel,
        weights: LossWeights,
        readouts: ReadOuts | None = None,
        readout_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.weights = weights
        self.readouts = readouts
        self.readout_weight = readout_weight

    def forward(self, part: StepPart, shares: Tensor) -> Tensor:
        """Return the weighted losses (6,), in the order of :data:`LOSSES`.

        ``shares`` (6,) are what a mean over this part counts among all.
        """
        nothing = shares.new_zeros(())
        parts, readout = [nothing] * len(LOSSES[:-1]), nothing
        if part.batch is not None:
            losses = training_step_losses(self.model, part.batch, self.weights)
            parts = [getattr(losses, name).to(shares.device) for name in LOSSES[:-1]]
            if isinstance(self, FSDPModule):
                parts[0] = parts[0] + 0 * self._touched(part.batch, sees=not losses.segments)
        if self.readouts is not None and part.reading is not None:
            readout = self.readout_weight * self.readouts(self.model, part.reading)
        return torch.stack([*parts, readout]) * shares

    def _touched(self, batch: TrainingBatch, *, sees: bool) -> Tensor:
        """Return a sum () over everything that another worker may use in its part of the step.

        Workers with shards exchange them whenever one is needed, so all have to need the same: also
        where the rows of this one have no mask, for which SAM ``sees`` a picture all the same.
        """
        total = torch.zeros((), device=batch.clip_views.device)
        for weight in self.parameters():
            if weight.requires_grad and not isinstance(weight, DTensor):
                total = total + weight.float().sum()
        if sees:
            total = total + self.model.sam_embedding(batch.sam_views[:1]).float().sum()
        return total


def training_step(model: ReadModel, queries: int, settings: TrainSettings) -> TrainingStep:
    """Return the step of a model, with read-outs of so many queries if the settings want them."""
    weights = loss_weights(settings)
    if settings.readouts is None:
        return TrainingStep(model, weights)
    readouts = ReadOuts(model.config, queries, settings.seed)
    device = next(model.parameters()).device
    return TrainingStep(model, weights, readouts.to(device), settings.readouts.weight)


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
    whole = torch.float32 if half else None
    policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=whole, output_dtype=whole)
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


def shares_of(parts: Sequence[StepPart], world: World) -> list[Tensor]:
    """Return for each part of this worker what its means (6,) count in the whole step.

    The factor ``world.size`` makes up for gradients being averaged over the workers.
    """
    counts = torch.tensor(
        [
            [
                0 if part.batch is None else (part.batch.labels != IGNORED).sum().item(),
                0 if part.batch is None else len(part.batch.masks),
                0 if part.reading is None else len(part.reading.known),
            ]
            for part in parts
        ],
        dtype=torch.float64,
    )
    total = world.total(counts.sum(dim=0).to(world.device)).cpu()
    shares = world.size * counts / total.clamp(min=1)
    return [share[[0, 1, 1, 1, 1, 2]].float().to(world.device) for share in shares]
