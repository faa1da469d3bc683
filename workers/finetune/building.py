"""From a checkpoint to a model that learns."""

from pathlib import Path

import torch

from workers.finetune.settings import TrainSettings
from workers.read.checkpoint import load_model
from workers.read.lora import LoraSettings, TrainableSettings, attach, make_trainable
from workers.read.model import ReadModel
from workers.read.train import LossWeights


def build_model(start: Path, settings: TrainSettings, device: str) -> ReadModel:
    """Load a checkpoint, put adapters on it, and let the chosen parts learn in float32.

    The same settings give the same fresh adapters in every process.

    Raises:
        CheckpointError: see :func:`workers.read.checkpoint.load_model`.
    """
    model = load_model(start, dtype=frozen_type(settings), device=device)
    if "adapters" in settings.trained_parts:
        torch.manual_seed(settings.seed)
        attach(model, LoraSettings(**settings.lora.model_dump()))
    prepare(model, settings)
    return model


def prepare(model: ReadModel, settings: TrainSettings) -> None:
    """Let the chosen parts of a model learn, adapters being attached."""
    make_trainable(model, TrainableSettings(settings.trained_parts))
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    if settings.gradient_checkpointing:
        model.llama.activation_checkpointing_enable({"use_reentrant": False})
    model.train()


def frozen_type(settings: TrainSettings) -> torch.dtype:
    """Return the type of what is frozen; FSDP wants one type, and casts while it computes."""
    half = settings.precision == "bfloat16"
    return torch.bfloat16 if half and settings.strategy != "fsdp" else torch.float32


def loss_weights(settings: TrainSettings) -> LossWeights:
    """Return the weights of the losses."""
    return LossWeights(**settings.losses.model_dump())
