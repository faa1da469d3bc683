"""READ written a second time, plainly, from the formulas and from other people's code.

Nothing of ``workers.read`` is used: CLIP and its image processor are those of transformers, SAM
and its transforms those of ``segment_anything``, the language model is written out below, and SasP
weighs every pixel of the image. No cache, no batching: slow, and easy to compare with the text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPImageProcessorPil, CLIPModel

Weights = dict[str, Tensor]
FINE, POINTS, POSITIVE, NEGATIVE, DOWN_SAMPLE = 336, 30, 0.8, 0.2, 2
LEARNS = ("text_hidden_fcs", "mask_decoder", "lm_head", "embed_tokens", "q_proj", "v_proj")


@dataclass(frozen=True)
class Sizes:
    """Sizes of the parts, none of them the releases'."""

    vocab: int = 131
    hidden: int = 72
    intermediate: int = 100
    layers: int = 2
    heads: int = 3
    clip_hidden: int = 48
    clip_layers: int = 4
    clip_heads: int = 3
    clip_image: int = 224
    sam_embed: int = 48
    sam_heads: int = 4
    sam_depth: int = 3
    sam_window: int = 7
    sam_global: tuple[int, ...] = (1,)
    sam_image: int = 512
    decoder_mlp: int = 96
    prompt: int = 256
    projector: str = "mlp2x_gelu"

    @property
    def side(self) -> int:
        """Image tokens along a side."""
        return self.clip_image // 14


def build_sam(sizes: Sizes) -> Sam:
    """SAM from its package's own parts."""
    grid = sizes.sam_image // 16
    return Sam(
        image_encoder=ImageEncoderViT(
            img_size=sizes.sam_image,
            embed_dim=sizes.sam_embed,
            depth=sizes.sam_depth,
            num_heads=sizes.sam_heads,
            out_chans=sizes.prompt,
            norm_layer=lambda width: nn.LayerNorm(width, eps=1e-6),
            use_rel_pos=True,
            window_size=sizes.sam_window,
            global_attn_indexes=sizes.sam_global,
        ),
        prompt_encoder=PromptEncoder(
            sizes.prompt, (grid, grid), (sizes.sam_image, sizes.sam_image), 16
        ),
        mask_decoder=MaskDecoder(
            transformer_dim=sizes.prompt,
            transformer=TwoWayTransformer(
                depth=2, embedding_dim=sizes.prompt, num_heads=8, mlp_dim=sizes.decoder_mlp
            ),
            iou_head_depth=3,
            iou_head_hidden_dim=64,
        ),
    )


@dataclass(frozen=True)
class Pass:
    """States of one sequence: expanded (L, D), and where its image tokens begin."""

    hidden: Tensor
    start: int


@dataclass(frozen=True)
class Points:
    """SasP's points of one ``[SEG]``."""

    xy: Tensor
    integer: Tensor
    labels: Tensor
    counts: list[int]
    grid: list[int]


class Reference:
    """The model of a folder that holds ``checkpoint/`` and ``clip/``."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.sizes = sizes
        self.folder = folder
        self.weights: Weights = {}
        for shard in sorted((folder / "checkpoint").glob("*.bin")):
            loaded = torch.load(shard, weights_only=True)
            self.weights |= {key: value.float() for key, value in loaded.items()}
        self.clip = CLIPModel.from_pretrained(folder / "clip").vision_model.eval()
        self.processor = CLIPImageProcessorPil.from_pretrained(folder / "clip")
        self.sam = build_sam(sizes).eval()
        prefix = "model.visual_model."
        state = {k.removeprefix(prefix): v for k, v in self.weights.items() if k.startswith(prefix)}
        self.sam.load_state_dict(state, strict=True)
        for name, weight in self.sam.named_parameters():  # one tensor, for gradients by its name
            self.weights[prefix + name] = weight

    @cached_property
    def learning(self) -> dict[str, Tensor]:
        """Weights that learn, by their released names."""
        learning = {}
        for key, weight in self.weights.items():
            group = next((name for name in LEARNS if name in key), None)
            text = key.startswith(("model.layers", "model.text", "model.embed", "lm_head"))
            learns = group is not None and (text or "visual_model.mask_decoder" in key)
            weight.requires_grad_(learns)
            if learns:
                learning[key] = weight
        return learning

    def clip_features(self, image: np.ndarray) -> Tensor:
        """Patch features (T, C) of an image (H, W, 3)."""
        pixels = self.processor(Image.fromarray(image), return_tensors="pt")["pixel_values"]
        return self.clip(pixels, output_hidden_states=True).hidden_states[-2][0, 1:]

    def project(self, features: Tensor) -> Tensor:
        """Features (T, C) to image tokens (T, D)."""
        w, name = self.weights, "model.mm_projector."
        if self.sizes.projector == "linear":
            return functional.linear(features, w[name + "weight"], w[name + "bias"])
        inner = functional.linear(features, w[name + "0.weight"], w[name + "0.bias"])
        return functional.linear(functional.gelu(inner), w[name + "2.weight"], w[name + "2.bias"])

    def run(self, ids: Sequence[int], tokens: Tensor) -> Pass:
        """The language model over ids, -200 replaced by image tokens (T, D)."""
        place = list(ids).index(-200)
        table = self.weights["model.embed_tokens.weight"]
        parts = [table[list(ids[:place])], tokens, table[list(ids[place + 1 :])]]
        state = torch.cat(parts)
        for layer in range(self.sizes.layers):
            state = self._layer(state, f"model.layers.{layer}.")
        return Pass(self._norm(state, "model.norm.weight"), place)

    def logits(self, states: Tensor) -> Tensor:
        """Next-token logits of states."""
        return states @ self.weights["lm_head.weight"].T

    def query(self, state: Tensor) -> Tensor:
        """Mask query (P,) of the state that predicted ``[SEG]``."""
        w, name = self.weights, "model.text_hidden_fcs.0."
        inner = torch.relu(w[name + "0.weight"] @ state + w[name + "0.bias"])
        return w[name + "2.weight"] @ inner + w[name + "2.bias"]

    def _norm(self, state: Tensor, name: str) -> Tensor:
        return self.weights[name] * state * (state.square().mean(-1, keepdim=True) + 1e-5).rsqrt()

    def _layer(self, state: Tensor, name: str) -> Tensor:
        state = state + self._attention(self._norm(state, name + "input_layernorm.weight"), name)
        normed = self._norm(state, name + "post_attention_layernorm.weight")
        gate, up, down = (
            self.weights[f"{name}mlp.{p}_proj.weight"] for p in ("gate", "up", "down")
        )
        return state + (functional.silu(normed @ gate.T) * (normed @ up.T)) @ down.T

    def _attention(self, state: Tensor, name: str) -> Tensor:
        length, heads = len(state), self.sizes.heads
        width = self.sizes.hidden // heads
        parts = {}
        for part in "qkv":
            weight = self.weights[f"{name}self_attn.{part}_proj.weight"]
            parts[part] = (state @ weight.T).reshape(length, heads, width).transpose(0, 1)
        rates = 10000.0 ** (-torch.arange(0, width, 2).double() / width)
        angles = (torch.arange(length).double()[:, None] * rates).repeat(1, 2)
        cos, sin = angles.cos().float(), angles.sin().float()
        for part in "qk":
            first, second = parts[part].chunk(2, dim=-1)
            parts[part] = parts[part] * cos + torch.cat([-second, first], dim=-1) * sin
        scores = parts["q"] @ parts["k"].transpose(1, 2) / width**0.5
        future = torch.ones(length, length).triu(1).bool()
        mixed = scores.masked_fill(future, -torch.inf).softmax(-1) @ parts["v"]
        out = self.weights[f"{name}self_attn.o_proj.weight"]
        return mixed.transpose(0, 1).reshape(length, -1) @ out.T

    def sam_embedding(self, image: np.ndarray) -> tuple[Tensor, tuple[int, int]]:
        """SAM's embedding (P, g, g), and the size that the image fills in its view."""
        resized = ResizeLongestSide(self.sizes.sam_image).apply_image(image)
        view = self.sam.preprocess(torch.from_numpy(resized.copy()).permute(2, 0, 1).float()[None])
        return self.sam.image_encoder(view)[0], resized.shape[:2]

    def decode(
        self, embedding: Tensor, xy: Tensor, labels: Tensor, query: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sparse prompts (N + 2, P), low-resolution logits (1, 1, l, l) and predicted IoU."""
        sparse, dense = self.sam.prompt_encoder((xy[None], labels[None]), None, None)
        sparse = torch.cat([sparse, query[None, None]], dim=1)
        low, iou = self.sam.mask_decoder(
            image_embeddings=embedding[None],
            image_pe=self.sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return sparse[0], low, iou


def sasp(similarity: Tensor, image_hw: tuple[int, int]) -> Points:
    """SasP by its definition: every pixel weighs in, point by point."""
    height, width = image_hw
    side = round(len(similarity) ** 0.5)
    s = side // DOWN_SAMPLE
    with torch.no_grad():
        coarse = _resize(similarity.reshape(side, side), (s, s))
        coarse = (coarse - coarse.min()) / (coarse.max() - coarse.min())
        scale = s / min(image_hw)
        pads = [(int(length * scale) - s) // 2 for length in image_hw]
        padded = functional.pad(coarse, (pads[1], pads[1], pads[0], pads[0]), value=-1.0)
        rows, columns = padded.shape
        cells = [(float(padded[r, c]), r, c) for r in range(rows) for c in range(columns)]
        positive = sorted(
            (cell for cell in cells if cell[0] >= POSITIVE), key=lambda cell: -cell[0]
        )
        negative = sorted(cell for cell in cells if 0 <= cell[0] <= NEGATIVE)
        neutral = [cell for cell in cells if NEGATIVE < cell[0] < POSITIVE]
        chosen = [
            (
                int(min(max((c + 0.5) * width / columns, 0), width - 1)),
                int(min(max((r + 0.5) * height / rows, 0), height - 1)),
                label,
            )
            for group, label in ((positive, 1), (negative, 0), (neutral, -1))
            for _, r, c in group
        ][:POINTS]
    integer = torch.tensor([[x, y] for x, y, _ in chosen])
    return Points(
        xy=_refined(similarity, integer, image_hw),
        integer=integer,
        labels=torch.tensor([label for _, _, label in chosen]),
        counts=[len(positive), len(negative), len(neutral)],
        grid=[rows, columns, *pads],
    )


def _refined(similarity: Tensor, integer: Tensor, image_hw: tuple[int, int]) -> Tensor:
    side = round(len(similarity) ** 0.5)
    unit = (similarity - similarity.min()) / (similarity.max() - similarity.min())
    fine = _resize(unit.reshape(side, side), (FINE, FINE))
    scale = FINE / min(image_hw)
    rows, columns = ((int(length * scale) - FINE) // 2 for length in image_hw)
    fine = _resize(functional.pad(fine, (columns, columns, rows, rows)), image_hw)
    share = fine.double().flatten().softmax(0).reshape(image_hw)
    y, x = torch.meshgrid(*(torch.arange(n).double() for n in image_hw), indexing="ij")
    means = []
    for px, py in integer.tolist():
        weights = share * torch.exp(-((x - px) ** 2) - (y - py) ** 2)
        means.append(torch.stack([(weights * x).sum(), (weights * y).sum()]) / weights.sum())
    return torch.stack(means).float()


def _resize(values: Tensor, size: tuple[int, int]) -> Tensor:
    shown = functional.interpolate(values[None, None], size, mode="bilinear", align_corners=False)
    return shown[0, 0]
