"""The language model's eye: the CLIP tower and the projector into LLaMA's space."""

import re

from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel
from transformers.activations import ACT2FN

from workers.read.attention import ATTENTION
from workers.read.config import ClipSizes, ReadConfig
from workers.read.errors import CheckpointError


def build_tower(sizes: ClipSizes) -> CLIPVisionModel:
    """Build a CLIP vision tower with fresh weights.

    Raises:
        CheckpointError: there is no such activation.
    """
    if sizes.activation not in ACT2FN:
        raise CheckpointError(
            f"config.json of the vision tower: hidden_act {sizes.activation!r} is not supported"
        )
    tower = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=sizes.hidden,
            intermediate_size=sizes.intermediate,
            num_hidden_layers=sizes.layers,
            num_attention_heads=sizes.heads,
            image_size=sizes.image,
            patch_size=sizes.patch,
            hidden_act=sizes.activation,
            layer_norm_eps=sizes.norm_eps,
        )
    )
    tower.set_attn_implementation(ATTENTION)
    return tower


def patch_features(tower: CLIPVisionModel, views: Tensor, select_layer: int) -> Tensor:
    """Turn views (B, 3, c, c) into features (B, T, C): one layer's states, class token dropped."""
    states = tower(views, output_hidden_states=True).hidden_states
    return states[select_layer][:, 1:]


def build_projector(config: ReadConfig) -> nn.Module:
    """Build the projector from CLIP's width to LLaMA's.

    Raises:
        CheckpointError: the type is neither ``linear`` nor ``mlp<N>x_gelu``.
    """
    narrow, wide = config.clip.hidden, config.llama.hidden
    if config.projector == "linear":
        return nn.Linear(narrow, wide)
    match = re.fullmatch(r"mlp([1-9]\d?)x_gelu", config.projector)
    if match is None:
        raise CheckpointError(
            f"config.json: mm_projector_type {config.projector!r} is not supported; "
            "expected 'linear' or 'mlp2x_gelu'"
        )
    layers: list[nn.Module] = [nn.Linear(narrow, wide)]
    for _ in range(int(match[1]) - 1):
        layers += [nn.GELU(), nn.Linear(wide, wide)]
    return nn.Sequential(*layers)
