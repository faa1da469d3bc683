"""Sizes and settings of a READ checkpoint. Pure data: how they are read stands in ``layout``."""

from dataclasses import dataclass, field
from typing import Literal

from workers.read.prompt import PromptSettings
from workers.read.sasp_settings import SasPSettings

__all__ = [
    "CLIP_L_336",
    "SAM_VIT_H",
    "ClipSizes",
    "ClipViewSettings",
    "Family",
    "LlamaSizes",
    "ReadConfig",
    "ReadSettings",
    "SamSizes",
    "SasPSettings",
]

Family = Literal["read", "sesame", "lisa"]

ROPE_THETA = 10000.0
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True)
class ClipViewSettings:
    """How an image becomes the CLIP view: bicubic to a shortest side, center crop, normalize.

    ``shortest_side`` and ``crop`` are pixels; ``mean`` and ``std`` belong to values in [0, 1].
    """

    shortest_side: int = 336
    crop: int = 336
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD


@dataclass(frozen=True, slots=True)
class LlamaSizes:
    """Sizes of the language model; ``max_positions`` counts image tokens too."""

    vocab: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value_heads: int
    norm_eps: float = 1e-5
    max_positions: int = 4096
    rope_theta: float = ROPE_THETA


@dataclass(frozen=True, slots=True)
class ClipSizes:
    """Sizes of the vision tower; ``image`` and ``patch`` are sides in pixels."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    image: int = 336
    patch: int = 14
    activation: str = "quick_gelu"
    norm_eps: float = 1e-5

    @property
    def side(self) -> int:
        """Image tokens along one side of the tower's square view."""
        return self.image // self.patch


CLIP_L_336 = ClipSizes(hidden=1024, intermediate=4096, layers=24, heads=16)
"""``openai/clip-vit-large-patch14-336``, the tower that the published checkpoints name."""


@dataclass(frozen=True, slots=True)
class SamSizes:
    """Sizes of SAM; ``grid`` is the side of its image embedding, ``patch`` in pixels.

    ``windows`` holds the window side of each encoder block, 0 for global attention. Released
    weights do not tell the decoder's number of heads: it is 8 in all of them.
    """

    grid: int
    embed: int
    heads: int
    windows: tuple[int, ...]
    mlp: int
    patch: int = 16
    prompt: int = 256
    mask_channels: int = 16
    decoder_layers: int = 2
    decoder_mlp: int = 2048
    mask_tokens: int = 4
    iou_layers: int = 3
    iou_hidden: int = 256

    @property
    def image(self) -> int:
        """Side of the SAM view in pixels."""
        return self.grid * self.patch


SAM_VIT_H = SamSizes(
    grid=64,
    embed=1280,
    heads=16,
    windows=tuple(0 if block in (7, 15, 23, 31) else 14 for block in range(32)),
    mlp=5120,
)
"""SAM ViT-H, which every published READ, SESAME and LISA checkpoint holds."""


@dataclass(frozen=True, slots=True)
class ReadConfig:
    """Everything that a model without weights is built from.

    ``projector`` is ``linear`` or ``mlp<N>x_gelu``; ``select_layer`` indexes the tower's hidden
    states as LLaVA does (-2: the last but one).
    """

    llama: LlamaSizes
    clip: ClipSizes
    sam: SamSizes
    projector: str = "mlp2x_gelu"
    select_layer: int = -2
    clip_view: ClipViewSettings = field(default_factory=ClipViewSettings)


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """How a checkpoint is used, which its weights do not tell: what ``readloop.json`` holds.

    ``sasp`` None prompts SAM with the ``[SEG]`` query alone, as SESAME and LISA do.
    ``max_new_tokens`` bounds an answer's length.
    """

    family: Family = "read"
    prompt: PromptSettings = field(default_factory=PromptSettings)
    sasp: SasPSettings | None = field(default_factory=SasPSettings)
    max_new_tokens: int = 64
