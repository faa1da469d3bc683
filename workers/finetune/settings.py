"""The ``train`` part of ``finetune`` in a run file."""

import hashlib
import json
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.settings import Settings

TrainedPart = Literal[
    "adapters",
    "lm_head",
    "embed_tokens",
    "mask_decoder",
    "query_head",
    "projector",
    "llama",
    "clip",
    "image_encoder",
    "prompt_encoder",
]
EVERY_PART: tuple[TrainedPart, ...] = (
    "llama",
    "clip",
    "projector",
    "query_head",
    "image_encoder",
    "prompt_encoder",
    "mask_decoder",
)
OPERATIONAL = frozenset(
    {"gradient_checkpointing", "gpus", "cpus", "threads", "checkpoint_every", "failures"}
)
"""Settings that change how a job runs and not what comes out of it."""

Adapted = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0)]


class AdapterSettings(Settings):
    """Low-rank adapters (READ, "Training"): rank 8 when going on, 64 from LLaVA."""

    rank: Positive = 8
    alpha: Positive = 16
    dropout: Share = 0.05
    targets: Annotated[tuple[Adapted, ...], Field(min_length=1)] = ("q_proj", "v_proj")


class LossSettings(Settings):
    """Weights of READ's three losses, and of two that it has not.

    ``similarity`` pulls the similarity map towards the object, ``quality`` SAM's predicted IoU
    towards the true one: for models whose encoders learn too.
    """

    ce: Weight = 1.0
    bce: Weight = 2.0
    dice: Weight = 0.5
    similarity: Weight = 0.0
    quality: Weight = 0.0


class AugmentSettings(Settings):
    """How corrected pictures are varied each time they are shown; nothing by default.

    ``flip`` shows half of them mirrored: not for queries that say left or right. ``crop`` is the
    smallest share of a side that a random crop keeps. ``light`` is by how much, at most, contrast
    and brightness change, as a share.
    """

    flip: bool = False
    crop: Annotated[float, Field(ge=0.25, le=1)] = 1.0
    light: Annotated[float, Field(ge=0, le=0.9)] = 0.0


class ReadOutSettings(Settings):
    """Read-outs, for encoders that learn and have not seen such pictures before.

    A step shows ``images`` more corrected pictures to the encoders alone: linear read-outs of the
    ``queries`` that were corrected in most pictures learn along, and are not kept. ``weight`` is
    that of their loss. Steps before all others, which are cheap, show the encoders alone as many
    pictures as there are, ``alone`` times.
    """

    images: Positive = 8
    queries: Positive = 64
    weight: Annotated[float, Field(gt=0)] = 1.0
    alone: Annotated[float, Field(ge=0)] = 0.0


class TrainSettings(Settings):
    """How a model is fine-tuned; the defaults are READ's for going on from a released model.

    A step shows ``images_per_step`` pictures, divided among the ``workers``; each works on
    ``images_at_once`` of them at a time and accumulates the gradients. A picture brings up to
    ``queries_per_image`` rows. ``steps`` outranks ``epochs``. ``scenes_share`` and
    ``dialogue_share`` of a step's pictures are replayed scenes and plain dialogue. The rate rises
    over ``warmup`` steps (at most a tenth of all), then falls linearly to 0; before, while encoders
    learn alone, which ``steps`` does not count, it stays. ``precision`` bfloat16 is for what is
    frozen: what learns stays float32 (with ``fsdp``, bfloat16 is for computing).
    ``parts`` may also be "all". ``loss_side`` bounds the pixels at which masks are compared.
    ``failures`` is how often dead workers are replaced.
    """

    epochs: Annotated[float, Field(gt=0)] = 10.0
    steps: Positive | None = None
    images_per_step: Positive = 8
    images_at_once: Positive = 4
    queries_per_image: Positive = 8
    scenes_share: Share = 0.3
    dialogue_share: Share = 0.05
    parts: tuple[TrainedPart, ...] | Literal["all"] = (
        "adapters",
        "lm_head",
        "embed_tokens",
        "mask_decoder",
        "query_head",
    )
    lora: AdapterSettings = AdapterSettings()
    losses: LossSettings = LossSettings()
    augment: AugmentSettings = AugmentSettings()
    readouts: ReadOutSettings | None = None
    loss_side: Annotated[int, Field(ge=16)] | None = None
    rate: Rate = 1e-4
    betas: tuple[Share, Share] = (0.9, 0.95)
    weight_decay: Weight = 0.0
    warmup: Annotated[int, Field(ge=0)] = 100
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    seed: Annotated[int, Field(ge=0)] = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    gradient_checkpointing: bool = False
    strategy: Literal["ddp", "fsdp"] = "ddp"
    workers: Positive = 1
    gpus: Annotated[float, Field(ge=0, le=1)] = 0
    cpus: Annotated[float, Field(gt=0)] = 1
    threads: Positive | None = None
    checkpoint_every: Positive = 50
    failures: Annotated[int, Field(ge=0)] = 3

    @property
    def trained_parts(self) -> tuple[TrainedPart, ...]:
        """The parts that learn, by name."""
        return EVERY_PART if self.parts == "all" else self.parts

    def digest(self, *others: str) -> str:
        """Return 12 hexadecimal digits that name a job by all that changes what comes out of it."""
        told = self.model_dump(mode="json", exclude=set(OPERATIONAL))
        text = json.dumps([*others, told], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @model_validator(mode="after")
    def _agree(self) -> "TrainSettings":
        self._check_divisible("images_per_step", self.images_per_step)
        if self.readouts:
            self._check_divisible("readouts.images", self.readouts.images)
            if not {"clip", "image_encoder"} & set(self.trained_parts):
                raise ValueError("readouts teach the encoders, but parts holds none of them")
        if self.scenes_share + self.dialogue_share >= 1:
            raise ValueError("scenes_share and dialogue_share leave nothing for the corrections")
        if not self.trained_parts:
            raise ValueError("parts is empty: nothing would learn")
        if {"adapters", "llama"} <= set(self.trained_parts):
            raise ValueError("parts holds adapters and llama: adapters are for a frozen one")
        return self

    def _check_divisible(self, name: str, images: int) -> None:
        if images % self.workers:
            raise ValueError(
                f"{name} {images} cannot be divided among {self.workers} workers; choose a multiple"
            )
