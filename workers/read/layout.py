"""What a checkpoint's JSON files and weight shapes say about sizes, and the way back.

LLaMA's sizes stand in ``config.json``, CLIP's in its own folder, SAM's nowhere: they are read off
the shapes of its weights.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeGuard, TypeVar

from workers.read.config import (
    CLIP_L_336,
    ROPE_THETA,
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
    "rope_theta": "rope_theta",
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

FRACTIONS = ("rms_norm_eps", "layer_norm_eps", "rope_theta")
"""Numbers that need not be whole."""

BICUBIC = 3
"""Pillow's number for it, which image processors store."""

RGB = 3
LARGEST = 2**31 - 1
"""Of all numbers that a configuration may hold: what torch counts sizes with."""

MOST_LAYERS = 512
"""A wrong number of layers is told from the weights, but only after a model of it was laid out."""

PROMPT_STEP, MASK_STEP = 16, 4
"""What segment-anything divides the channels of prompts and of masks by."""

SAM_PREFIX = "model.visual_model."
CLIP_CONFIG = "config.json of the vision tower"
CLIP_PREPROCESSOR = "preprocessor_config.json of the vision tower"


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
    view = _clip_view(preprocessor)
    if view.crop != sizes.clip.image:
        raise CheckpointError(
            f"vision tower: preprocessor_config.json crops to {view.crop} pixels, "
            f"config.json expects {sizes.clip.image}"
        )
    if view.crop > view.shortest_side:
        raise CheckpointError(
            f"{CLIP_PREPROCESSOR}: 'crop_size' {view.crop} is over 'size' {view.shortest_side}"
        )
    return replace(sizes, clip_view=view)


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
        projector=_text({"mm_projector_type": "linear", **llava}, "mm_projector_type"),
        select_layer=_select_layer(llava, clip.layers),
    )


def llava_json(config: ReadConfig, architecture: str, tower: str) -> dict[str, Any]:
    """Write ``config.json`` in the fields of the releases; ``tower`` names the CLIP folder."""
    sizes = {key: getattr(config.llama, field) for field, key in LLAMA_FIELDS.items()}
    return {
        "architectures": [architecture],
        "model_type": "llava",
        "hidden_act": "silu",
        **sizes,
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
    said = {key: value for key, value in llava.items() if value is not None}
    known = {
        "num_key_value_heads": llava.get("num_attention_heads"),
        "rope_theta": ROPE_THETA,
        **said,
    }
    sizes = LlamaSizes(**{field: _number(known, key) for field, key in LLAMA_FIELDS.items()})
    if sizes.hidden % (2 * sizes.heads) or sizes.heads % sizes.key_value_heads:
        raise CheckpointError(
            f"config.json: 'num_attention_heads' {sizes.heads} must divide 'hidden_size' "
            f"{sizes.hidden} into even widths and be a multiple of 'num_key_value_heads' "
            f"{sizes.key_value_heads}"
        )
    return sizes


def _select_layer(llava: Mapping[str, Any], layers: int) -> int:
    value = llava.get("mm_vision_select_layer", -2)
    if not _is_whole(value) or not -layers - 1 <= value <= layers:
        raise CheckpointError(
            f"config.json: 'mm_vision_select_layer' {value!r} is none of the states before and "
            f"after the {layers} layers of the vision tower"
        )
    return value


def _clip_sizes(clip: Mapping[str, Any]) -> ClipSizes:
    said = clip.get("vision_config", clip)
    if not isinstance(said, dict):
        raise CheckpointError(f"{CLIP_CONFIG}: 'vision_config' must be an object, found {said!r}")
    known = {**CLIP_DEFAULTS, **said}
    numbers = {field: key for field, key in CLIP_FIELDS.items() if field != "activation"}
    sizes = ClipSizes(
        **{field: _number(known, key, CLIP_CONFIG) for field, key in numbers.items()},
        activation=_text(known, CLIP_FIELDS["activation"], CLIP_CONFIG),
    )
    if not sizes.side:
        raise CheckpointError(
            f"{CLIP_CONFIG}: 'patch_size' {sizes.patch} is over 'image_size' {sizes.image}"
        )
    return sizes


def _clip_view(preprocessor: Mapping[str, Any]) -> ClipViewSettings:
    if preprocessor.get("resample", BICUBIC) != BICUBIC:
        raise CheckpointError(
            f"{CLIP_PREPROCESSOR}: resample {preprocessor['resample']} is not {BICUBIC}"
        )
    view = ClipViewSettings(
        shortest_side=_side(preprocessor, "size", "shortest_edge"),
        crop=_side(preprocessor, "crop_size", "height"),
        mean=_channels(preprocessor, "image_mean"),
        std=_channels(preprocessor, "image_std"),
    )
    if min(view.std) <= 0:
        raise CheckpointError(
            f"{CLIP_PREPROCESSOR}: 'image_std' must be positive, found {list(view.std)}"
        )
    return view


def _side(preprocessor: Mapping[str, Any], key: str, part: str) -> int:
    """Read a side in pixels, which image processors store plainly or in an object."""
    value = _need(preprocessor, key, CLIP_PREPROCESSOR)
    sides = value if isinstance(value, dict) else {part: value}
    return _number(sides, part, f"{CLIP_PREPROCESSOR}, {key!r}")


def _channels(preprocessor: Mapping[str, Any], key: str) -> tuple[float, float, float]:
    values = _need(preprocessor, key, CLIP_PREPROCESSOR)
    numbers = [value for value in values if _is_number(value)] if isinstance(values, list) else []
    if len(numbers) != RGB or numbers != values:
        raise CheckpointError(
            f"{CLIP_PREPROCESSOR}: {key!r} must be {RGB} numbers, found {values!r}"
        )
    red, green, blue = numbers
    return red, green, blue


def _sam_sizes(shapes: Shapes) -> SamSizes:
    def shape(key: str, rank: int) -> tuple[int, ...]:
        found = _need(shapes, SAM_PREFIX + key, "weights")
        if len(found) != rank or 0 in found:
            raise CheckpointError(
                f"weights: {SAM_PREFIX}{key} has the shape {found}; expected {rank} sides"
            )
        return found

    encoder, decoder = "image_encoder.", "mask_decoder."
    _, grid, _, embed = shape(encoder + "pos_embed", 4)
    blocks = range(_count(shapes, SAM_PREFIX + encoder + "blocks."))
    relative = [shape(f"{encoder}blocks.{block}.attn.rel_pos_h", 2) for block in blocks]
    if not relative or embed % relative[0][1]:
        raise CheckpointError(
            f"weights: {SAM_PREFIX}{encoder} has blocks of {embed} channels, which its relative "
            "positions do not divide into heads"
        )
    reach = [(length + 1) // 2 for length, _ in relative]
    layers = decoder + "transformer.layers."
    sizes = SamSizes(
        grid=grid,
        embed=embed,
        heads=embed // relative[0][1],
        windows=tuple(0 if side == grid else side for side in reach),
        patch=shape(encoder + "patch_embed.proj.weight", 4)[-1],
        mlp=shape(encoder + "blocks.0.mlp.lin1.weight", 2)[0],
        prompt=shape(encoder + "neck.0.weight", 4)[0],
        mask_channels=shape("prompt_encoder.mask_downscaling.3.weight", 4)[0],
        decoder_layers=_count(shapes, SAM_PREFIX + layers),
        decoder_mlp=shape(layers + "0.mlp.lin1.weight", 2)[0],
        mask_tokens=shape(decoder + "mask_tokens.weight", 2)[0],
        iou_layers=_count(shapes, SAM_PREFIX + decoder + "iou_prediction_head.layers."),
        iou_hidden=shape(decoder + "iou_prediction_head.layers.0.weight", 2)[0],
    )
    if sizes.prompt % PROMPT_STEP or sizes.mask_channels % MASK_STEP:
        raise CheckpointError(
            f"weights: SAM's prompts have {sizes.prompt} channels and its masks "
            f"{sizes.mask_channels}; expected multiples of {PROMPT_STEP} and {MASK_STEP}"
        )
    return sizes


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


def _number(values: Mapping[str, Any], key: str, where: str = "config.json") -> Any:  # noqa: ANN401
    value = _need(values, key, where)
    if not _is_number(value) or value <= 0:
        raise CheckpointError(
            f"{where}: {key!r} must be a positive number up to {LARGEST}, found {value!r}"
        )
    if not _is_whole(value) and key not in FRACTIONS:
        raise CheckpointError(f"{where}: {key!r} must be a whole number, found {value!r}")
    if key == "num_hidden_layers" and value > MOST_LAYERS:
        raise CheckpointError(f"{where}: {key!r} {value} is over the limit of {MOST_LAYERS}")
    return float(value) if key in FRACTIONS else value


def _text(values: Mapping[str, Any], key: str, where: str = "config.json") -> str:
    value = _need(values, key, where)
    if not isinstance(value, str):
        raise CheckpointError(f"{where}: {key!r} must be a text, found {value!r}")
    return value


def _is_number(value: object) -> TypeGuard[int | float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= LARGEST  # which NaN is not


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _need(values: Mapping[str, Value], key: str, where: str) -> Value:
    if values.get(key) is None:
        raise CheckpointError(f"{where}: {key!r} is missing")
    return values[key]
