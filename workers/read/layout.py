"""What a checkpoint's JSON files and weight shapes say about sizes, and the way back.

LLaMA's sizes stand in ``config.json``, CLIP's in its own folder, SAM's nowhere: they are read off
the shapes of its weights.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from workers.read.config import (
    CLIP_L_336,
    SAM_VIT_H,
    ClipSizes,
    ClipViewSettings,
    LlamaSizes,
    ReadConfig,
    SamSizes,
)
from workers.read.errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]
Value = TypeVar("Value")

LLAMA_FIELDS = {
    "vocab": "vocab_size",
    "hidden": "hidden_size",
    "intermediate": "intermediate_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "key_value_heads": "num_key_value_heads",
    "norm_eps": "rms_norm_eps",
    "max_positions": "max_position_embeddings",
}
CLIP_FIELDS = {
    "hidden": "hidden_size",
    "intermediate": "intermediate_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "image": "image_size",
    "patch": "patch_size",
    "activation": "hidden_act",
    "norm_eps": "layer_norm_eps",
}
"""Field of our sizes: key in ``config.json``. Both ways go through these two tables."""

CLIP_DEFAULTS = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
"""What a tower means by leaving a key out: the defaults of transformers' CLIPVisionConfig."""

BICUBIC = 3
"""Pillow's number for it, which image processors store."""

MOST_LAYERS = 512
"""A wrong number of layers is told from the weights, but only after a model of it was laid out."""

SAM_PREFIX = "model.visual_model."


def read_config(
    llava: Mapping[str, Any],
    clip: Mapping[str, Any],
    preprocessor: Mapping[str, Any],
    shapes: Shapes,
) -> ReadConfig:
    """Read all sizes off ``config.json``, CLIP's two JSON files and the weights' shapes.

    Without shapes, SAM is the published one.

    Raises:
        CheckpointError: a key is missing or asks for something that is not supported.
    """
    sizes = planned_config(llava, shapes, _clip_sizes(clip))
    config = replace(sizes, clip_view=_clip_view(preprocessor))
    if config.clip_view.crop != config.clip.image:
        raise CheckpointError(
            f"vision tower: preprocessor_config.json crops to {config.clip_view.crop} pixels, "
            f"config.json expects {config.clip.image}"
        )
    return config


def planned_config(
    llava: Mapping[str, Any], shapes: Shapes, clip: ClipSizes = CLIP_L_336
) -> ReadConfig:
    """Sizes without a look at the tower's files; without shapes, SAM is the published one.

    Raises:
        CheckpointError: a key is missing or asks for something that is not supported.
    """
    _refuse_unsupported(llava)
    return ReadConfig(
        llama=_llama_sizes(llava),
        clip=clip,
        sam=_sam_sizes(shapes) if shapes else SAM_VIT_H,
        projector=llava.get("mm_projector_type", "linear"),
        select_layer=llava.get("mm_vision_select_layer", -2),
    )


def llava_json(config: ReadConfig, architecture: str, tower: str) -> dict[str, Any]:
    """Write ``config.json`` in the fields of the releases; ``tower`` names the CLIP folder."""
    sizes = {key: getattr(config.llama, field) for field, key in LLAMA_FIELDS.items()}
    return {
        "architectures": [architecture],
        "model_type": "llava",
        "hidden_act": "silu",
        **sizes,
        "rope_theta": config.llama.rope_theta,
        "rope_scaling": None,
        "tie_word_embeddings": False,
        "mm_hidden_size": config.clip.hidden,
        "mm_projector_type": config.projector,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": config.select_layer,
        "mm_use_im_start_end": True,
        "mm_vision_tower": tower,
        "vision_tower": tower,
        "out_dim": config.sam.prompt,
        "train_mask_decoder": True,
        "torch_dtype": "bfloat16",
    }


def clip_json(sizes: ClipSizes) -> dict[str, Any]:
    """Write the ``config.json`` of a CLIP vision tower."""
    return {
        "architectures": ["CLIPVisionModel"],
        "model_type": "clip_vision_model",
        "num_channels": 3,
        **{key: getattr(sizes, field) for field, key in CLIP_FIELDS.items()},
    }


def preprocessor_json(view: ClipViewSettings) -> dict[str, Any]:
    """Write the ``preprocessor_config.json`` of a CLIP vision tower."""
    return {
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "resample": BICUBIC,
        "size": view.shortest_side,
        "crop_size": view.crop,
        "image_mean": list(view.mean),
        "image_std": list(view.std),
    }


def _llama_sizes(llava: Mapping[str, Any]) -> LlamaSizes:
    known = {"num_key_value_heads": llava.get("num_attention_heads"), **llava}
    sizes = {field: _number(known, key, "config.json") for field, key in LLAMA_FIELDS.items()}
    return LlamaSizes(**sizes, rope_theta=llava.get("rope_theta") or 10000.0)


def _clip_sizes(clip: Mapping[str, Any]) -> ClipSizes:
    known = {**CLIP_DEFAULTS, **clip.get("vision_config", clip)}
    where = "config.json of the vision tower"
    numbers = {field: key for field, key in CLIP_FIELDS.items() if field != "activation"}
    return ClipSizes(
        **{field: _number(known, key, where) for field, key in numbers.items()},
        activation=known["hidden_act"],
    )


def _clip_view(preprocessor: Mapping[str, Any]) -> ClipViewSettings:
    where = "preprocessor_config.json of the vision tower"
    if preprocessor.get("resample", BICUBIC) != BICUBIC:
        raise CheckpointError(f"{where}: resample {preprocessor['resample']} is not {BICUBIC}")
    size, crop = (_need(preprocessor, key, where) for key in ("size", "crop_size"))
    return ClipViewSettings(
        shortest_side=size["shortest_edge"] if isinstance(size, dict) else size,
        crop=crop["height"] if isinstance(crop, dict) else crop,
        mean=tuple(_need(preprocessor, "image_mean", where)),
        std=tuple(_need(preprocessor, "image_std", where)),
    )


def _sam_sizes(shapes: Shapes) -> SamSizes:
    def shape(key: str) -> tuple[int, ...]:
        return _need(shapes, SAM_PREFIX + key, "weights")

    encoder, decoder = "image_encoder.", "mask_decoder."
    _, grid, _, embed = shape(encoder + "pos_embed")
    blocks = range(_count(shapes, SAM_PREFIX + encoder + "blocks."))
    relative = [shape(f"{encoder}blocks.{block}.attn.rel_pos_h") for block in blocks]
    reach = [(length + 1) // 2 for length, _ in relative]
    layers = decoder + "transformer.layers."
    return SamSizes(
        grid=grid,
        embed=embed,
        heads=embed // shape(f"{encoder}blocks.0.attn.rel_pos_h")[1],
        windows=tuple(0 if side == grid else side for side in reach),
        patch=shape(encoder + "patch_embed.proj.weight")[-1],
        mlp=shape(encoder + "blocks.0.mlp.lin1.weight")[0],
        prompt=shape(encoder + "neck.0.weight")[0],
        mask_channels=shape("prompt_encoder.mask_downscaling.3.weight")[0],
        decoder_layers=_count(shapes, SAM_PREFIX + layers),
        decoder_mlp=shape(layers + "0.mlp.lin1.weight")[0],
        mask_tokens=shape(decoder + "mask_tokens.weight")[0],
        iou_layers=_count(shapes, SAM_PREFIX + decoder + "iou_prediction_head.layers."),
        iou_hidden=shape(decoder + "iou_prediction_head.layers.0.weight")[0],
    )


def _refuse_unsupported(llava: Mapping[str, Any]) -> None:
    supported = {
        "hidden_act": ("silu",),
        "rope_scaling": (None,),
        "mm_vision_select_feature": ("patch",),
        "tie_word_embeddings": (False,),
    }
    for key, values in supported.items():
        if llava.get(key, values[0]) not in values:
            raise CheckpointError(
                f"config.json: {key} {llava[key]!r} is not supported; expected {values[0]!r}"
            )


def _count(shapes: Shapes, prefix: str) -> int:
    """Number of list entries ``prefix + N + '.'`` among the keys."""
    return len({key.removeprefix(prefix).split(".")[0] for key in shapes if key.startswith(prefix)})


def _number(values: Mapping[str, Any], key: str, where: str) -> Any:  # noqa: ANN401
    value = _need(values, key, where)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise CheckpointError(f"{where}: {key!r} must be a positive number, found {value!r}")
    if isinstance(value, float) and not key.endswith("_eps"):
        raise CheckpointError(f"{where}: {key!r} must be a whole number, found {value!r}")
    if key == "num_hidden_layers" and value > MOST_LAYERS:
        raise CheckpointError(f"{where}: {key!r} {value} is over the limit of {MOST_LAYERS}")
    return value


def _need(values: Mapping[str, Value], key: str, where: str) -> Value:
    if values.get(key) is None:
        raise CheckpointError(f"{where}: {key!r} is missing")
    return values[key]
