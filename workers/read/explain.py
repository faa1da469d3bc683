"""Look inside an answer: what ``[SEG]`` resembles in the language model and in SAM's decoder.

READ begins with the observation that the similarity between ``[SEG]`` and the image tokens, in the
last hidden state of the language model and again in SAM's decoder, lies on the object. Here both
maps are taken from one answer, with the masks with and without points, and compared in numbers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from workers.read.drawing import central_square
from workers.read.engine import ReadEngine
from workers.read.inference import seg_tokens
from workers.read.masks import SegMask, SegToken, seg_masks
from workers.read.model import ReadModel
from workers.read.settings import default_sasp

HALF = 0.5


@dataclass(frozen=True, slots=True)
class SegInside:
    """One ``[SEG]`` of an answer from the inside.

    ``language_map`` (S, S) float32: dot products of the state that predicted it with the image
    tokens' states, over the central square of the image; ``decoder_map`` (H, W) float32: dot
    products of SAM's last prompt token with its image tokens, both after the two-way transformer,
    laid over the image. ``points_xy`` (N, 2) and ``point_labels`` (N,) are those of SasP;
    ``with_points`` and ``without_points`` bool (H, W) are the masks with and without them, and
    ``mask`` is the one that the checkpoint's settings give, the decoder's map with it.
    """

    language_map: np.ndarray
    decoder_map: np.ndarray
    points_xy: np.ndarray
    point_labels: np.ndarray
    mask: np.ndarray
    with_points: np.ndarray
    without_points: np.ndarray


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two maps and a mask agree; None where it is not defined.

    ``spearman`` correlates both maps on the cells of the language model's; ``language_iou`` and
    ``decoder_iou`` compare each map, normalized and cut at 0.5, with the mask, ``sasp_iou`` the
    masks with and without points.
    """

    spearman: float | None
    language_iou: float | None
    decoder_iou: float | None
    sasp_iou: float | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """An answer's text and its ``[SEG]``, each with its inside."""

    text: str
    segments: tuple[SegInside, ...]


@torch.inference_mode()
def explain(
    engine: ReadEngine, image: np.ndarray, query: str, *, max_query_characters: int = 2000
) -> Explanation:
    """Answer a query about uint8 RGB (H, W, 3) and look inside.

    A checkpoint whose settings have no SasP is shown with the default one beside its own mask.

    Raises:
        QueryError: the query cannot be asked.
    """
    encoded, generated = engine.generate(image, query, max_query_characters=max_query_characters)
    found = seg_tokens(encoded, generated, engine.tokenizer.seg_id)
    return Explanation(
        text=engine.tokenizer.decode(generated.ids).strip(),
        segments=tuple(_inside(engine.model, token) for _, token in found),
    )


def agreement(inside: SegInside) -> Agreement:
    """Compare maps and masks in numbers."""
    height, width = inside.mask.shape
    left, top, right, bottom = central_square(inside.mask)
    square = cv2.resize(inside.language_map, (right - left, bottom - top))
    language = np.full((height, width), square.min(), dtype=np.float32)
    language[top:bottom, left:right] = square
    cells = inside.language_map.shape[::-1]
    decoder = cv2.resize(
        inside.decoder_map[top:bottom, left:right], cells, interpolation=cv2.INTER_AREA
    )
    return Agreement(
        spearman=spearman(inside.language_map, decoder),
        language_iou=iou(above_half(language), inside.mask),
        decoder_iou=iou(above_half(inside.decoder_map), inside.mask),
        sasp_iou=iou(inside.with_points, inside.without_points),
    )


def spearman(one: np.ndarray, other: np.ndarray) -> float | None:
    """Rank correlation of two arrays of one shape, equal values sharing their mean rank.

    None where one of them is constant.
    """
    first, second = _ranks(one.ravel()), _ranks(other.ravel())
    spread = first.std() * second.std()
    if spread == 0:
        return None
    return float(((first - first.mean()) * (second - second.mean())).mean() / spread)


def above_half(values: np.ndarray) -> np.ndarray:
    """Where a map, normalized to [0, 1], reaches 0.5; nowhere if it is constant."""
    lowest, highest = values.min(), values.max()
    return np.asarray((values - lowest >= HALF * (highest - lowest)) & (highest > lowest))


def iou(one: np.ndarray, other: np.ndarray) -> float | None:
    """Intersection over union of bool arrays; None if both are empty."""
    union = np.count_nonzero(one | other)
    return float(np.count_nonzero(one & other) / union) if union else None


def _inside(model: ReadModel, token: SegToken) -> SegInside:
    sasp = model.settings.sasp
    with _outputs(model.sam.mask_decoder.transformer) as seen:
        (own,) = model.masks([token])
    ((prompts, image_tokens),) = seen
    (other,) = seg_masks(
        [token],
        model.query_head,
        model.sam,
        default_sasp(model.config.llama.hidden) if sasp is None else None,
    )
    pointed, plain = (other, own) if sasp is None else (own, other)
    side = round(len(own.similarity) ** 0.5)
    points = pointed.points
    return SegInside(
        language_map=_array(own.similarity).reshape(side, side),
        decoder_map=_decoder_map(model, prompts[0, -1], image_tokens[0], token),
        points_xy=np.zeros((0, 2), np.float32) if points is None else _array(points.xy),
        point_labels=np.zeros(0, np.int64) if points is None else _array(points.labels),
        mask=_mask(own),
        with_points=_mask(pointed),
        without_points=_mask(plain),
    )


@contextmanager
def _outputs(module: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Collect what a module returns while the context is open."""
    seen: list[tuple[Tensor, Tensor]] = []
    handle = module.register_forward_hook(lambda _, __, output: seen.append(output))
    try:
        yield seen
    finally:
        handle.remove()


def _decoder_map(
    model: ReadModel, prompt: Tensor, image_tokens: Tensor, token: SegToken
) -> np.ndarray:
    """Similarity of a prompt token (P,) with image tokens (g * g, P), over the image (H, W)."""
    grid = model.config.sam.grid
    similarity = (image_tokens @ prompt).reshape(1, 1, grid, grid)
    return _array(model.sam.upscale(similarity, token.resized_hw, token.image_hw)[0])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, equal values sharing the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return np.asarray((last - (counts - 1) / 2)[place])


def _mask(mask: SegMask) -> np.ndarray:
    return _array(mask.logits > 0)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()
