"""READ: LLaVA (CLIP, projector, LLaMA) whose ``[SEG]`` states prompt SAM.

The model is a set of steps (``clip_features``, ``image_tokens``, ``embed``, ``hidden``, ``logits``,
``sam_embedding``, ``masks``) that inference, training and checks call in the same way.
"""

from collections.abc import Sequence

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from workers.read.attention import ATTENTION
from workers.read.config import LlamaSizes, ReadConfig, ReadSettings
from workers.read.errors import CheckpointError
from workers.read.masks import SegMask, SegToken, seg_masks
from workers.read.sam import Sam
from workers.read.tokenizer import IMAGE_TOKEN_ID
from workers.read.vision import build_projector, build_tower, patch_features

MISFITS = (
    ArithmeticError,
    AssertionError,
    RuntimeError,
    TypeError,
    ValueError,
    StrictDataclassError,
)
"""What torch, transformers and segment-anything raise for sizes that contradict each other."""


class ReadModel(nn.Module):
    """A READ model with fresh weights of the sizes in ``config``.

    CLIP, projector, LLaMA, query head and SAM's image encoder may be bfloat16; SAM's prompts and
    decoder always stay float32. ``lm_head``, ``embed_tokens`` and query head may be float32 in a
    bfloat16 model, as they are while they learn.
    """

    def __init__(self, config: ReadConfig, settings: ReadSettings | None = None) -> None:
        super().__init__()
        self.config = config
        self.settings = settings or ReadSettings()
        hidden = config.llama.hidden
        self.clip = build_tower(config.clip)
        self.projector = build_projector(config)
        self.llama = LlamaForCausalLM(_llama_config(config.llama))
        self.llama.set_attn_implementation(ATTENTION)
        self.query_head = nn.Sequential(
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, config.sam.prompt)
        )
        self.sam = Sam(config.sam)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the language model's weights."""
        return self.llama.lm_head.weight.dtype

    @property
    def device(self) -> torch.device:
        """Device of the language model's weights."""
        return self.llama.lm_head.weight.device

    def clip_features(self, views: Tensor) -> Tensor:
        """CLIP views (B, 3, c, c) to patch features (B, T, C)."""
        return patch_features(self.clip, views.to(self.clip.dtype), self.config.select_layer)

    def image_tokens(self, features: Tensor) -> Tensor:
        """Patch features (B, T, C) to projected image tokens (B, T, D), of the layers' type."""
        first = next(self.projector.parameters())
        layer = self.llama.model.layers[0].input_layernorm.weight
        return self.projector(features.to(first.dtype)).to(layer.dtype)

    def sam_embedding(self, views: Tensor) -> Tensor:
        """SAM views (B, 3, s, s) to image embeddings (B, P, g, g)."""
        return self.sam.image_encoder(views.to(self.sam.image_encoder.pos_embed.dtype))

    def embed(self, input_ids: Tensor, image_tokens: Tensor) -> Tensor:
        """Embed ids (L,), replacing the one -200 by image tokens (T, D): (L - 1 + T, D).

        Several rows, (R, L) and (R, T, D), must have it at the same place. All get the type of the
        image tokens, also where the embeddings learn in float32.
        """
        place = image_place(input_ids.reshape(-1, input_ids.shape[-1])[0])
        embeddings = self.llama.model.embed_tokens
        before = embeddings(input_ids[..., :place]).to(image_tokens)
        after = embeddings(input_ids[..., place + 1 :]).to(image_tokens)
        return torch.cat([before, image_tokens, after], dim=-2)

    def hidden(self, embeddings: Tensor, cache: DynamicCache | None = None) -> Tensor:
        """States (R, L, D) after the final norm; ``cache``, if given, is read and extended.

        Rows may be padded on the right: attention is causal, so padding never reaches a token.
        """
        return self.llama.model(
            inputs_embeds=embeddings, past_key_values=cache, use_cache=cache is not None
        ).last_hidden_state

    def logits(self, hidden: Tensor) -> Tensor:
        """States (..., D) to next-token logits (..., V) in float32."""
        return self.llama.lm_head(hidden.to(self.dtype)).float()

    def masks(self, tokens: Sequence[SegToken]) -> list[SegMask]:
        """``[SEG]`` tokens to masks, see :func:`workers.read.masks.seg_masks`."""
        return seg_masks(tokens, self.query_head, self.sam, self.settings.sasp)


def lay_out(config: ReadConfig, settings: ReadSettings | None = None) -> ReadModel:
    """Build a model of these sizes on the meta device: shapes without weights.

    Raises:
        CheckpointError: the sizes do not fit together.
    """
    try:
        with torch.device("meta"):
            return ReadModel(config, settings)
    except CheckpointError:
        raise
    except MISFITS as error:
        raise CheckpointError(f"its sizes do not fit together ({error})") from error


def image_place(input_ids: Tensor) -> int:
    """Index of the image placeholder (-200) in ids (L,).

    Raises:
        ValueError: there is no placeholder, or more than one.
    """
    places = (input_ids == IMAGE_TOKEN_ID).nonzero()[:, 0].tolist()
    if len(places) != 1:
        raise ValueError(f"a prompt needs exactly one <image>, found {len(places)}")
    return places[0]


def _llama_config(sizes: LlamaSizes) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=sizes.vocab,
        hidden_size=sizes.hidden,
        intermediate_size=sizes.intermediate,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.key_value_heads,
        rms_norm_eps=sizes.norm_eps,
        max_position_embeddings=sizes.max_positions,
        rope_parameters={"rope_type": "default", "rope_theta": sizes.rope_theta},
    )
