"""Every number of the tiny recipe: sizes of the model, and how it is trained."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Literal

from workers.read.config import (
    ClipSizes,
    ClipViewSettings,
    LlamaSizes,
    ReadConfig,
    SamSizes,
    SasPSettings,
)
from workers.read.train import LossWeights
from workers.scenes import EASY, HARD, Difficulty

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


FINE_SASP = SasPSettings(num_points=20, t_pos=0.7, t_neg=0.2, down_sample=1)
"""With 16 x 16 cells: a small object still has one to four of them, a large one dozens."""


def fine_config(vocabulary: int) -> ReadConfig:
    """Sizes for small objects (about 7.8 million parameters): four times the tokens and pixels.

    Of a square picture an object of 0.5 % is 18 pixels wide in the CLIP view and 10 in the mask,
    against 9 and 5 of :func:`tiny_config`. Half as wide a decoder pays for it.
    """
    return ReadConfig(
        llama=LlamaSizes(
            vocab=vocabulary,
            hidden=256,
            intermediate=640,
            layers=4,
            heads=8,
            key_value_heads=8,
            max_positions=2048,
        ),
        clip=ClipSizes(hidden=192, intermediate=384, layers=6, heads=6, image=224, patch=14),
        sam=SamSizes(
            grid=32,
            embed=128,
            heads=4,
            windows=(8, 8, 0, 8, 8, 0),
            mlp=512,
            prompt=128,
            decoder_mlp=256,
            iou_hidden=64,
        ),
        clip_view=ClipViewSettings(shortest_side=224, crop=224),
    )


def sharp_config(vocabulary: int) -> ReadConfig:
    """Sizes of :func:`tiny_config` with four times the CLIP tokens, for small objects on two cores.

    Telling small objects apart is what the language model's tokens are for; an outline of half as
    many pixels costs a part of an object's IoU, a wrong choice all of it. Half as many attention
    heads, twice as wide, halve the cost of attention on a CPU.
    """
    tiny = tiny_config(vocabulary)
    view = ClipViewSettings(shortest_side=224, crop=224)
    return replace(
        tiny,
        clip=replace(tiny.clip, heads=3, image=view.crop),
        llama=replace(tiny.llama, heads=3, key_value_heads=3),
        clip_view=view,
    )


Optimizer = Literal["adamw", "muon"]
Layout = Literal["tiny", "sharp", "fine"]
_CONFIGS: dict[Layout, Callable[[int], ReadConfig]] = {
    "tiny": tiny_config,
    "sharp": sharp_config,
    "fine": fine_config,
}


@dataclass(frozen=True, slots=True)
class AuxiliaryWeights:
    """Weights of the losses that only training from scratch has.

    Attributes:
        presence: cross-entropy of the answer's first token alone, which says yes or no.
        search: similarity of the same place's state to the image tokens of its object; to none when
            the object is absent.
        tokens: color and shape of each image token, from the language model's states.
        patches: color and shape of each CLIP patch, before the language model.
        places: center and size of the object at each image token and at each patch.
        relations: where a relation's two ends lie, from the state that says yes or no.
        outlines: foreground, color and shape, from SAM's image embedding.
    """

    presence: float = 3.0
    search: float = 1.0
    tokens: float = 0.5
    patches: float = 2.0
    places: float = 2.0
    relations: float = 2.0
    outlines: float = 0.5


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a training: how many pictures a step shows, and which part of the model sees them.

    A part that comes late needs what earlier ones make of a picture, and costs the more, so a
    training may begin with the encoders, go on with the language model and end with all of it.

    Attributes:
        minutes: how long it lasts; the last stage lasts until the training's end.
        scenes: pictures that are asked about.
        queries: most queries about each; None: as many as the difficulty says.
        masks: most masks of each that are compared; None: all, 0: SAM does not see them. All their
            queries have a similarity map to learn from.
        relations: how many times as often as elsewhere they ask for a relation: whether none of
            several things lies so takes longest to learn.
        tower_scenes: pictures for the CLIP tower alone: it needs many to learn shapes and costs
            little, the rest of the model the other way round.
        tower_again: of those, so many of an earlier step come again, mirrored: a picture takes as
            long to draw as to learn from.
        outline_scenes: pictures for SAM's encoder alone.
    """

    minutes: float = math.inf
    scenes: int = 8
    queries: int | None = None
    masks: int | None = None
    relations: float = 1.0
    tower_scenes: int = 16
    tower_again: int = 0
    outline_scenes: int = 0

    def __post_init__(self) -> None:
        """Refuse a stage whose steps could be empty: a scene may have no query."""
        if self.tower_scenes + self.outline_scenes == 0:
            raise ValueError("a stage needs tower_scenes or outline_scenes, or a step may be empty")

    @property
    def pictures(self) -> int:
        """How many pictures are drawn a step."""
        return self.scenes + self.tower_scenes + self.outline_scenes

    @property
    def compares_masks(self) -> bool:
        """Whether SAM sees the pictures that are asked about."""
        return self.masks != 0


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the tiny model is trained; ``minutes`` of training in all, over any number of starts.

    ``layout`` chooses the sizes, ``use_sasp`` whether SAM gets points.

    ``scene_side`` is the longer side, in pixels, of the pictures that SAM sees, ``tower_side`` the
    shorter side of those that only the CLIP tower and the language model see (both are their view's
    sides: more would be scaled away; pictures for both are as large as either needs). Masks are
    compared at ``loss_side``, twice SAM's own resolution: at full size that took a fifth of a step.
    ``optimizer`` moves the matrices of linear layers; AdamW moves all else.
    The learning rate rises over the first ``warmup`` steps of each stage. In the last stage it
    falls along a cosine of the minutes to ``last_rate`` times its peak.
    """

    layout: Layout = "tiny"
    use_sasp: bool = True
    seed: int = 20_240
    minutes: float = 75.0
    stages: tuple[Stage, ...] = (Stage(),)
    scene_side: int = 256
    tower_side: int = 112
    loss_side: int = 128
    difficulty: Difficulty = EASY
    rate: float = 1e-3
    last_rate: float = 0.02
    warmup: int = 60
    optimizer: Optimizer = "adamw"
    weight_decay: float = 0.02
    clip_norm: float = 1.0
    averaging: float = 0.997
    losses: LossWeights = field(
        default_factory=lambda: LossWeights(dice=2.0, similarity=2.0, quality=0.5)
    )
    auxiliary: AuxiliaryWeights = field(default_factory=AuxiliaryWeights)

    @property
    def kind(self) -> str:
        """What a training cannot be resumed across, in words."""
        points = "with" if self.use_sasp else "without"
        knobs = self.difficulty
        return (
            f"{self.layout} sizes {points} SasP, "
            f"{len(knobs.colors)} colors and {len(knobs.shapes)} shapes"
        )

    @property
    def sasp(self) -> SasPSettings | None:
        """The checkpoint's settings of SasP."""
        if not self.use_sasp:
            return None
        return SASP if self.layout == "tiny" else FINE_SASP

    def stage_at(self, seconds: float) -> int:
        """Number of the stage that is on after so many seconds of training."""
        return sum(seconds >= end for end in self._ends[:-1])

    def stage_seconds(self, number: int) -> tuple[float, float]:
        """Begin and end of a stage, in seconds of training, which may end before it."""
        begin = self._ends[number - 1] if number else 0.0
        return begin, min(self._ends[number], self.minutes * 60)

    @property
    def last_begins(self) -> float:
        """Minutes of training after which the last stage, of the whole model, begins."""
        return self.stage_seconds(len(self.stages) - 1)[0] / 60

    @property
    def _ends(self) -> list[float]:
        """Ends of the stages, in seconds; the last one has none of its own."""
        return [*accumulate(stage.minutes * 60 for stage in self.stages[:-1]), math.inf]

    def config(self, vocabulary: int) -> ReadConfig:
        """Sizes of the model for so many token ids."""
        return _CONFIGS[self.layout](vocabulary)


CPU = Recipe()
GPU = Recipe(
    layout="fine",
    minutes=25.0,
    stages=(Stage(scenes=32, tower_scenes=64),),
    scene_side=512,
    tower_side=224,
    loss_side=256,
    difficulty=replace(HARD, pairs="training", queries=(8, 8)),
    rate=8e-4,
    warmup=300,
    averaging=0.998,
)
SHARP = replace(
    CPU,
    layout="sharp",
    minutes=175.0,
    stages=(
        Stage(minutes=15, scenes=0, tower_scenes=12, tower_again=12, outline_scenes=4),
        Stage(minutes=60, scenes=6, queries=16, masks=0, tower_scenes=4, tower_again=4),
        Stage(scenes=5, queries=16, masks=6, relations=3, tower_scenes=3, tower_again=3),
    ),
    tower_side=224,
    difficulty=replace(HARD, pairs="training"),
    optimizer="muon",
    rate=1.5e-3,
)
PRESETS = {"cpu": CPU, "gpu": GPU, "sharp": SHARP}
"""``cpu`` made the bundled weights; ``sharp`` learns hard scenes on two cores."""
