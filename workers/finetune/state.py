"""The training's state on the store: from it, a killed job goes on as if nothing had happened.

The position in the lessons and the random numbers of a step both follow from the number of the
step, and so does the learning rate.
"""

import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import AdamW

from pipeline.storage.store import Store
from workers.finetune.parallel import World
from workers.finetune.settings import TrainSettings

_KEPT = 2
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
_PARTIAL = StateDictOptions(full_state_dict=True, strict=False)


@dataclass(slots=True)
class TrainingState:
    """All that a resumed job needs: ``step`` is the next one, counts are of what came before."""

    module: nn.Module
    optimizer: AdamW
    step: int = 0
    images: int = 0
    rows: int = 0
    seconds: float = 0.0
    loss: float = 0.0

    def learned(self) -> dict[str, Tensor]:
        """Return what learns of the model, whole and on the CPU, by its name in it.

        Every worker has to call this.
        """
        learning = {
            name.removeprefix("module.")
            for name, weight in self.module.named_parameters()
            if weight.requires_grad
        }
        found = get_model_state_dict(self.module, options=_WHOLE)
        return {
            name.removeprefix("model."): value
            for name, value in found.items()
            if name in learning and name.startswith("model.") and isinstance(value, Tensor)
        }


class Checkpoints:
    """States of one job, below its folder on the store."""

    def __init__(self, store: Store, folder: str, world: World) -> None:
        self._store = store
        self._folder = f"{folder}/states"
        self._world = world

    def save(self, state: TrainingState) -> None:
        """Write a state and delete those before the last; every worker has to call this."""
        content = {
            "model": get_model_state_dict(state.module, options=_WHOLE),
            "optimizer": get_optimizer_state_dict(state.module, state.optimizer, options=_WHOLE),
            "counts": [state.step, state.images, state.rows],
            "sums": [state.seconds, state.loss],
        }
        if self._world.rank == 0:
            buffer = io.BytesIO()
            torch.save(content, buffer)
            self._store.put(f"{self._folder}/{state.step:08d}.pt", buffer.getvalue())
            self._store.delete(self._paths()[:-_KEPT])

    def restore(self, state: TrainingState) -> None:
        """Go on from the newest state, if there is one."""
        paths = self._paths()
        if not paths:
            return
        data = io.BytesIO(self._store.get(paths[-1]))
        content: Mapping[str, Any] = torch.load(data, map_location="cpu", weights_only=True)
        set_model_state_dict(state.module, dict(content["model"]), options=_PARTIAL)
        set_optimizer_state_dict(
            state.module, state.optimizer, content["optimizer"], options=_PARTIAL
        )
        _forget(state, set(content["optimizer"]["state"]))
        state.step, state.images, state.rows = content["counts"]
        state.seconds, state.loss = content["sums"]

    def drop(self) -> None:
        """Delete all states: the job is done."""
        self._store.delete(self._paths())

    def _paths(self) -> list[str]:
        names = sorted(info.uri.rpartition("/")[2] for info in self._store.list(self._folder))
        return [f"{self._folder}/{name}" for name in names]


def _forget(state: TrainingState, known: Collection[str]) -> None:
    """Drop what the optimizer was given for weights that had learned nothing yet.

    To restore its state, torch first makes one for every weight, as of a step already taken.
    """
    for name, weight in state.module.named_parameters():
        if name.removeprefix("module.") not in known:
            state.optimizer.state.pop(weight, None)


def build_optimizer(module: nn.Module, settings: TrainSettings) -> AdamW:
    """Return AdamW over what learns."""
    return AdamW(
        [weight for weight in module.parameters() if weight.requires_grad],
        lr=settings.rate,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
    )


def rate_at(step: int, steps: int, settings: TrainSettings) -> float:
    """Return the learning rate of a step: a linear rise, then a linear fall to 0 after the last.

    The rise takes ``warmup`` steps, at most a tenth of all.
    """
    rise = min(settings.warmup, steps // 10)
    if step < rise:
        return settings.rate * (step + 1) / rise
    return settings.rate * (steps - step) / max(1, steps - rise)
