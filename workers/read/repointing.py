"""Refining a mask: other points, the same ``[SEG]`` vectors, no language model.

A stored prediction keeps its points and mask queries (``seg_vectors``). With the image's
embedding, SAM's decoder makes its mask of them again, by the path that made it first
(:func:`workers.read.masks.decode_masks`), or another mask of other points.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save

from workers.read.engine import ReadEngine, stability
from workers.read.errors import ReadError
from workers.read.inference import embed_image
from workers.read.masks import EmbeddedImage, MaskPrompt, decode_masks
from workers.read.model import ReadModel
from workers.read.prompt import FormedQuery

_EMBEDDING, _SIZES = "embedding", "sizes"


@dataclass(frozen=True, slots=True)
class PromptPoints:
    """Points of one ``[SEG]``: ``xy`` (N, 2) float32 in pixels of the image, ``labels`` (N,)."""

    xy: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RefinedMask:
    """The union of the vectors' masks, bool (H, W).

    ``predicted_iou`` and ``stability`` are the lowest over the masks, as in a prediction.
    """

    mask: NDArray[np.bool_]
    predicted_iou: float
    stability: float


@torch.inference_mode()
def embed(model: ReadModel, image: NDArray[np.uint8]) -> EmbeddedImage:
    """Encode uint8 RGB (H, W, 3) for any number of refinements."""
    return embed_image(model, image)


@torch.inference_mode()
def refine(
    model: ReadModel,
    image: EmbeddedImage,
    vectors: Sequence[Sequence[float]],
    points: Sequence[PromptPoints],
) -> RefinedMask:
    """Make the mask of some vectors, each with its own points.

    Raises:
        ReadError: there is no vector, or one has not the model's width.
    """
    width = model.config.sam.prompt
    if not vectors or any(len(vector) != width for vector in vectors):
        raise ReadError(f"a mask needs vectors of {width} numbers, as this model makes them")
    decoded = [
        decode_masks([(image, _prompt(model, vector, chosen))], model.sam)[0]
        for vector, chosen in zip(vectors, points, strict=True)
    ]
    masks = torch.stack([one.logits > 0 for one in decoded])
    return RefinedMask(
        mask=masks.any(dim=0).cpu().numpy(),
        predicted_iou=min(float(one.iou) for one in decoded),
        stability=min(stability(one.logits) for one in decoded),
    )


@torch.inference_mode()
def mask_queries(
    engine: ReadEngine, image: NDArray[np.uint8], query: str | FormedQuery
) -> tuple[tuple[float, ...], ...]:
    """Answer a query about uint8 RGB (H, W, 3) and return the vector of each ``[SEG]``.

    An answer without one gives the vector of the step at which ``[SEG]`` was most probable: what
    the model would have looked for, for a person who says that it is there.

    Raises:
        QueryError: the query cannot be asked.
    """
    _, generated = engine.generate(image, query)
    found = [step for step, token in enumerate(generated.ids) if token == engine.tokenizer.seg_id]
    steps = found or [int(np.argmax(generated.seg_probabilities))]
    states = torch.stack([generated.predicting(step) for step in steps])
    head = engine.model.query_head
    vectors = head(states.to(next(head.parameters()).dtype)).float()
    return tuple(tuple(row) for row in vectors.tolist())


def to_bytes(image: EmbeddedImage) -> bytes:
    """Return an embedding as safetensors, in the type that the model made it in."""
    sizes = torch.tensor([*image.image_hw, *image.resized_hw], dtype=torch.int64)
    return save({_EMBEDDING: image.embedding.contiguous().cpu(), _SIZES: sizes})


def from_bytes(content: bytes, model: ReadModel) -> EmbeddedImage:
    """Return the embedding that :func:`to_bytes` wrote, on the model's device.

    Raises:
        ReadError: the content is no embedding of this model.
    """
    grid = model.config.sam.grid
    try:
        parts = load(content)
        height, width, view_height, view_width = parts[_SIZES].tolist()
        embedding = parts[_EMBEDDING].to(model.device)
    except (KeyError, ValueError, SafetensorError) as error:
        raise ReadError(f"not an image embedding: {error}") from error
    if embedding.shape != (model.config.sam.prompt, grid, grid):
        raise ReadError(f"an embedding of shape {tuple(embedding.shape)} is not this model's")
    return EmbeddedImage(embedding, (height, width), (view_height, view_width))


def size_of(image: EmbeddedImage) -> int:
    """Return how many bytes an embedding takes."""
    return image.embedding.element_size() * image.embedding.nelement()


def _prompt(model: ReadModel, vector: Sequence[float], points: PromptPoints) -> MaskPrompt:
    return MaskPrompt(
        query=torch.tensor(vector, dtype=torch.float32, device=model.device),
        points=torch.from_numpy(points.xy.reshape(-1, 2)).to(model.device),
        labels=torch.from_numpy(points.labels).to(model.device),
    )
