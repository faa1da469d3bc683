"""From an image and prompts to answers and masks, step by step, every tensor in reach.

An image is encoded once; the part of the prompts up to its tokens is read once into a key-value
cache that all questions about it share. Each question is then answered by itself, so that asking
several gives exactly what asking one by one gives.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from workers.read.errors import QueryError
from workers.read.images import clip_view, sam_view
from workers.read.masks import EmbeddedImage, SegMask, SegToken
from workers.read.model import ReadModel
from workers.read.tokenizer import IMAGE_TOKEN_ID


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """Everything the model knows of an image before it is asked.

    ``features`` (T, C) of CLIP; ``tokens`` (T, D) projected; ``embedding`` (P, g, g) of SAM;
    ``image_hw`` original size and ``resized_hw`` used part of the SAM view, in pixels.
    """

    features: Tensor
    tokens: Tensor
    embedding: Tensor
    image_hw: tuple[int, int]
    resized_hw: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Opening:
    """The start of every prompt about an image, up to its last image token, already read.

    ``ids`` stand before the placeholder; ``hidden`` (L, D) are the states of all positions, the
    image tokens' last. ``cache`` holds their keys and values and, after use, more behind them.
    """

    ids: tuple[int, ...]
    hidden: Tensor
    cache: DynamicCache


@dataclass(frozen=True, slots=True)
class Generated:
    """One answer.

    ``ids`` (N) as generated, the end token included; ``hidden`` (L, D) final-norm states of the
    whole sequence but the last token, which nothing reads; the last N predicted ``ids``.
    ``seg_probabilities`` (N): probability of ``[SEG]`` at each of those steps. ``image`` is where
    the image tokens stand.
    """

    ids: tuple[int, ...]
    hidden: Tensor
    seg_probabilities: tuple[float, ...]
    image: slice

    def predicting(self, step: int) -> Tensor:
        """State (D,) that predicted the token generated at ``step``."""
        return self.hidden[len(self.hidden) - len(self.ids) + step]


def encode_image(model: ReadModel, image: np.ndarray) -> EncodedImage:
    """Encode uint8 RGB (H, W, 3) by CLIP, projector and SAM."""
    clip = torch.from_numpy(clip_view(image, model.config.clip_view)).to(model.device)
    features = model.clip_features(clip[None])
    seen = embed_image(model, image)
    return EncodedImage(
        features=features[0],
        tokens=model.image_tokens(features)[0],
        embedding=seen.embedding,
        image_hw=seen.image_hw,
        resized_hw=seen.resized_hw,
    )


def embed_image(model: ReadModel, image: np.ndarray) -> EmbeddedImage:
    """Encode uint8 RGB (H, W, 3) by SAM alone."""
    view, resized_hw = sam_view(image, model.config.sam.image)
    embedding = model.sam_embedding(torch.from_numpy(view).to(model.device)[None])[0]
    return EmbeddedImage(embedding, (image.shape[0], image.shape[1]), resized_hw)


def read_opening(model: ReadModel, prompt_ids: Sequence[int], image: EncodedImage) -> Opening:
    """Read a prompt up to its image tokens.

    Raises:
        QueryError: the prompt has no place for the image, or more than one.
    """
    before, _ = split_prompt(prompt_ids)
    ids = torch.tensor([*before, IMAGE_TOKEN_ID], device=model.device)
    cache = DynamicCache(config=model.llama.config)
    hidden = model.hidden(model.embed(ids, image.tokens)[None], cache)[0]
    return Opening(before, hidden, cache)


def answer(
    model: ReadModel,
    opening: Opening,
    prompt_ids: Sequence[int],
    *,
    seg_id: int,
    eos_id: int,
    max_new_tokens: int,
) -> Generated:
    """Answer a prompt greedily; it must begin as the opening does.

    Raises:
        QueryError: prompt and longest answer do not fit the model's context.
    """
    before, after = split_prompt(prompt_ids)
    assert before == opening.ids, "the prompt begins otherwise than the opening that was read"
    start = len(opening.hidden)
    length, limit = start + len(after), model.config.llama.max_positions
    if length + max_new_tokens > limit:
        raise QueryError(
            f"the prompt takes {length} positions, image included; with {max_new_tokens} for the "
            f"answer that is over the model's {limit}: shorten the query"
        )
    _forget(opening.cache, start)
    states = [opening.hidden]
    ids: list[int] = []
    probabilities: list[float] = []
    fed: Sequence[int] = after
    while not ids or (ids[-1] != eos_id and len(ids) < max_new_tokens):
        embeddings = model.llama.model.embed_tokens(torch.tensor([fed], device=model.device))
        states.append(model.hidden(embeddings, opening.cache)[0])
        logits = model.logits(states[-1][-1])
        fed = [int(logits.argmax())]
        ids += fed
        probabilities.append(float(logits.softmax(dim=0)[seg_id]))
    return Generated(
        ids=tuple(ids),
        hidden=torch.cat(states),
        seg_probabilities=tuple(probabilities),
        image=slice(len(before), start),
    )


def seg_tokens(
    image: EncodedImage, generated: Generated, seg_id: int
) -> Iterator[tuple[int, SegToken]]:
    """The ``[SEG]`` of an answer, in order, each with the step that generated it."""
    for step, token in enumerate(generated.ids):
        if token == seg_id:
            yield (
                step,
                SegToken(
                    state=generated.predicting(step),
                    image_states=generated.hidden[generated.image],
                    embedding=image.embedding,
                    image_hw=image.image_hw,
                    resized_hw=image.resized_hw,
                ),
            )


def segments(
    model: ReadModel, image: EncodedImage, generated: Generated, seg_id: int
) -> Iterator[tuple[int, SegMask]]:
    """Masks of an answer, in order, each with the step that generated its ``[SEG]``.

    They come one by one, because a mask of a large image takes much memory.
    """
    for step, token in seg_tokens(image, generated, seg_id):
        yield step, model.masks([token])[0]


def split_prompt(prompt_ids: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids before and after the image placeholder.

    Raises:
        QueryError: there is no placeholder, or more than one.
    """
    ids = tuple(prompt_ids)
    if ids.count(IMAGE_TOKEN_ID) != 1:
        raise QueryError(f"a prompt needs one image, this one has {ids.count(IMAGE_TOKEN_ID)}")
    place = ids.index(IMAGE_TOKEN_ID)
    return ids[:place], ids[place + 1 :]


def _forget(cache: DynamicCache, length: int) -> None:
    """Cut a cache back to its first ``length`` positions."""
    extra = cache.get_seq_length() - length
    if extra:
        cache.crop(-extra)
