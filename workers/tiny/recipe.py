"""Every number of the tiny recipe: sizes of the model, and how it is trained."""

from dataclasses import dataclass, field

from workers.read.config import (
    ClipSizes,
    ClipViewSettings,
    LlamaSizes,
    ReadConfig,
    SamSizes,
    SasPSettings,
)
from workers.read.train import LossWeights
from workers.scenes import EASY, Difficulty

SASP = SasPSettings(num_points=12, t_pos=0.7, t_neg=0.2, down_sample=1)
"""With 8 x 8 cells: an object covers one to four of them, the rest of the points are negative."""

VOCABULARY = 900
ADDED_TOKENS = ("[SEG]", "<im_start>", "<im_end>")


def tiny_config(vocabulary: int) -> ReadConfig:
    """Sizes of the tiny model (about 7.5 million parameters) for so many token ids."""
    return ReadConfig(
        llama=LlamaSizes(
            vocab=vocabulary,
            hidden=192,
            intermediate=512,
            layers=4,
            heads=6,
            key_value_heads=6,
            max_positions=2048,
        ),
        clip=ClipSizes(hidden=192, intermediate=384, layers=5, heads=6, image=112, patch=14),
        sam=SamSizes(
            grid=16,
            embed=128,
            heads=4,
            windows=(8, 0, 8, 0),
            mlp=512,
            decoder_mlp=256,
            iou_hidden=64,
        ),
        clip_view=ClipViewSettings(shortest_side=112, crop=112),
    )


@dataclass(frozen=True, slots=True)
class AuxiliaryWeights:
    """Weights of the losses that only training from scratch has.

    Attributes:
        similarity: pulls the similarity map towards the object's coverage of its cells.
        presence: cross-entropy of the answer's first token alone, which says yes or no.
        tokens: color and shape of each image token, from the language model's states.
        patches: color and shape of each CLIP patch of the extra scenes, before the language model.
        outlines: foreground, color and shape, from SAM's image embedding.
        quality: squared error of SAM's predicted IoU, which READ's own losses never touch.
    """

    similarity: float = 2.0
    presence: float = 3.0
    tokens: float = 0.5
    patches: float = 2.0
    outlines: float = 0.5
    quality: float = 0.5


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the tiny model is trained; ``minutes`` of training in all, over any number of starts.

    ``scene_side`` is the longer side, in pixels, of the pictures trained on (the SAM view's: more
    would be scaled away). Masks are compared at ``loss_side``, twice SAM's own resolution: at full
    size that took a fifth of a step. A step also shows ``extra_scenes`` to the CLIP tower alone,
    drawn with a longer side of ``extra_side``: the tower needs many pictures to learn shapes and
    costs little, the rest of the model the other way round. The learning rate rises over
    ``warmup`` steps, then falls along a cosine of the minutes to ``last_rate`` times its peak.
    """

    seed: int = 20_240
    minutes: float = 75.0
    scenes_per_step: int = 8
    extra_scenes: int = 16
    scene_side: int = 256
    extra_side: int = 168
    loss_side: int = 128
    difficulty: Difficulty = EASY
    rate: float = 1e-3
    last_rate: float = 0.02
    warmup: int = 60
    weight_decay: float = 0.02
    clip_norm: float = 1.0
    averaging: float = 0.997
    losses: LossWeights = field(default_factory=lambda: LossWeights(dice=2.0))
    auxiliary: AuxiliaryWeights = field(default_factory=AuxiliaryWeights)
