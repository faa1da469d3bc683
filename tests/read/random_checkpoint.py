"""Random checkpoints in the released layout: sharded pickles, a full CLIP model, any sizes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

from tests.read.reference import Sizes, build_sam

SHARDS = 3


def write_checkpoint(folder: Path, sizes: Sizes, answer: Sequence[int], first: int) -> None:
    """Write random weights that answer with the tokens ``answer``; ``first`` ends every prompt.

    The tokenizer's files are in the folder already.
    """
    torch.manual_seed(11)
    hidden, weights = sizes.hidden, {}
    weights["model.embed_tokens.weight"] = torch.randn(sizes.vocab, hidden)
    for layer in range(sizes.layers):
        name = f"model.layers.{layer}."
        for part in "qkvo":
            weights[f"{name}self_attn.{part}_proj.weight"] = _random(hidden, hidden)
        for part, shape in (
            ("gate", (sizes.intermediate, hidden)),
            ("up", (sizes.intermediate, hidden)),
            ("down", (hidden, sizes.intermediate)),
        ):
            weights[f"{name}mlp.{part}_proj.weight"] = _random(*shape)
        for part in ("input", "post_attention"):
            weights[f"{name}{part}_layernorm.weight"] = 1 + _random(hidden)
        weights[f"{name}self_attn.rotary_emb.inv_freq"] = torch.rand(hidden // sizes.heads // 2)
    weights["model.norm.weight"] = 1 + _random(hidden)
    weights["lm_head.weight"] = _random(sizes.vocab, hidden)
    for before, token in zip([first, *answer], answer, strict=False):
        weights["lm_head.weight"][token] += weights["model.embed_tokens.weight"][before]
    weights |= _projector(sizes) | _query_head(sizes)
    for name, value in build_sam(sizes).state_dict().items():
        weights[f"model.visual_model.{name}"] = value + 0.02 * torch.randn_like(value)
    _write_shards(folder / "checkpoint", weights)
    write_json(folder / "checkpoint" / "config.json", _llava(sizes))
    _write_tower(folder / "clip", sizes)


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape) * 0.06


def _projector(sizes: Sizes) -> dict[str, Tensor]:
    shapes = {"": (sizes.hidden, sizes.clip_hidden)}
    if sizes.projector != "linear":
        shapes = {"0.": (sizes.hidden, sizes.clip_hidden), "2.": (sizes.hidden, sizes.hidden)}
    name = "model.mm_projector."
    weights = {f"{name}{part}weight": 5 * _random(*shape) for part, shape in shapes.items()}
    return weights | {f"{name}{part}bias": _random(sizes.hidden) for part in shapes}


def _query_head(sizes: Sizes) -> dict[str, Tensor]:
    shapes = {"0": (sizes.hidden, sizes.hidden), "2": (sizes.prompt, sizes.hidden)}
    name = "model.text_hidden_fcs.0."
    weights = {f"{name}{part}.weight": _random(*shape) for part, shape in shapes.items()}
    return weights | {f"{name}{part}.bias": _random(shape[0]) for part, shape in shapes.items()}


def _llava(sizes: Sizes) -> dict[str, Any]:
    tower = "openai/clip-vit-large-patch14"
    return {
        "architectures": ["READForCausalLM"],
        "hidden_act": "silu",
        "hidden_size": sizes.hidden,
        "intermediate_size": sizes.intermediate,
        "max_position_embeddings": 4096,
        "mm_hidden_size": sizes.clip_hidden,
        "mm_projector_type": sizes.projector,
        "mm_use_im_start_end": True,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": tower,
        "model_type": "llava",
        "num_attention_heads": sizes.heads,
        "num_hidden_layers": sizes.layers,
        "num_key_value_heads": sizes.heads,
        "out_dim": sizes.prompt,
        "rms_norm_eps": 1e-5,
        "rope_scaling": None,
        "tie_word_embeddings": False,
        "train_mask_decoder": True,
        "vision_tower": tower,
        "vocab_size": sizes.vocab,
    }


def _write_shards(folder: Path, weights: dict[str, Tensor]) -> None:
    names, places = sorted(weights), {}
    for shard in range(SHARDS):
        file = f"pytorch_model-{shard + 1:05d}-of-{SHARDS:05d}.bin"
        part = {name: weights[name].to(torch.bfloat16) for name in names[shard::SHARDS]}
        torch.save(part, folder / file)
        places |= dict.fromkeys(part, file)
    write_json(folder / "pytorch_model.bin.index.json", {"metadata": {}, "weight_map": places})


def _write_tower(folder: Path, sizes: Sizes) -> None:
    """A full CLIPModel, whose text half nothing needs; the image size stays unwritten if usual."""
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    vision = {
        "hidden_size": sizes.clip_hidden,
        "intermediate_size": 2 * sizes.clip_hidden,
        "num_hidden_layers": sizes.clip_layers,
        "num_attention_heads": sizes.clip_heads,
        "image_size": sizes.clip_image,
        "patch_size": 14,
    }
    text |= {"num_attention_heads": 2, "vocab_size": 50}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision))
    folder.mkdir()
    for weight in model.parameters():
        weight.data += 0.02 * torch.randn_like(weight)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    content = model.config.to_dict()
    if sizes.clip_image == 224:
        del content["vision_config"]["image_size"]
    write_json(folder / "config.json", content)
    side = sizes.clip_image
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}
    )
    processor.save_pretrained(folder)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(content, indent=1))
