"""The engine: an image and queries in, answers with masks and points out. No Ray, no I/O.

The queries of an image share its encoding; each is answered by itself, so its answer does not
depend on the others.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from workers.read.checkpoint import load_model
from workers.read.errors import QueryError
from workers.read.identity import fingerprint
from workers.read.inference import (
    EncodedImage,
    Generated,
    Opening,
    answer,
    encode_image,
    read_opening,
    segments,
)
from workers.read.masks import SegMask
from workers.read.model import ReadModel
from workers.read.prompt import FormedQuery, check_query, prompt, question
from workers.read.settings import settings_json
from workers.read.tokenizer import ReadTokenizer

Precision = Literal["float32", "bfloat16", "float16"]
STABILITY_OFFSET = 1.0
"""Shift of the mask threshold, in logits, that SAM's stability score is made with."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One ``[SEG]`` of an answer.

    ``probability`` of the token where it was generated; ``query_vector`` (P,) float32, the mask
    query; ``similarity`` (S, S) float32, raw dot products; ``points_xy`` (N, 2) float32 in pixels
    of the image, ``point_labels`` (N,) int8 in {1, 0, -1}, ``point_similarity`` (N,) float32 in
    [0, 1]; ``mask`` bool (H, W); ``predicted_iou`` as SAM predicts it; ``stability``: IoU of the
    masks at logits over 1 and over -1, 0 where both are empty.
    """

    probability: float
    query_vector: np.ndarray
    similarity: np.ndarray
    points_xy: np.ndarray
    point_labels: np.ndarray
    point_similarity: np.ndarray
    mask: np.ndarray
    predicted_iou: float
    stability: float


@dataclass(frozen=True, slots=True)
class EngineSeconds:
    """Wall seconds; ``encode`` is this query's equal share of encoding the image."""

    encode: float
    answer: float
    mask: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says to one query.

    ``present``: there is a ``[SEG]`` whose mask is not empty. ``seg_probability``: the highest
    that ``[SEG]`` had at any step, whether or not it was chosen.
    """

    text: str
    present: bool
    seg_probability: float
    segments: tuple[Segment, ...]
    seconds: EngineSeconds


class ReadEngine:
    """A loaded checkpoint that answers queries.

    ``version`` names the weights; ``settings_json`` holds everything else that changes results.
    """

    def __init__(
        self, model: ReadModel, tokenizer: ReadTokenizer, version: str, precision: Precision
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.version = version
        self.settings_json = settings_json(model.settings, precision=precision)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        precision: Precision = "float32",
        device: str = "cpu",
        *,
        clip: str | Path | None = None,
    ) -> "ReadEngine":
        """Load a checkpoint folder; ``device`` may name several GPUs, or ``auto`` for all.

        Raises:
            CheckpointError: see :func:`workers.read.checkpoint.load_model`.
        """
        torch.backends.cudnn.allow_tf32 = False  # float32 means float32 in convolutions too
        model = load_model(folder, clip=clip, dtype=getattr(torch, precision), device=device)
        tokenizer = ReadTokenizer.from_folder(folder)
        return cls(model, tokenizer, fingerprint(folder, clip=clip), precision)

    @torch.inference_mode()
    def predict(
        self,
        image: np.ndarray,
        queries: Sequence[str | FormedQuery],
        *,
        max_query_characters: int = 2000,
    ) -> list[Answer | QueryError]:
        """Answer queries about uint8 RGB (H, W, 3), in order.

        A query that cannot be asked (empty, too long for ``max_query_characters`` or the model's
        context, or holding a token of the prompt) gets a :class:`QueryError` *in its place* in
        the list; the others are answered.
        """
        asked = [self._prompt_ids(query, max_query_characters) for query in queries]
        prompts = [ids for ids in asked if not isinstance(ids, QueryError)]
        if not prompts:
            return [error for error in asked if isinstance(error, QueryError)]
        begun = time.perf_counter()
        encoded = encode_image(self.model, image)
        opening = read_opening(self.model, prompts[0], encoded)
        self._finish()
        share = (time.perf_counter() - begun) / len(prompts)
        return [
            ids if isinstance(ids, QueryError) else self._answer(encoded, opening, ids, share)
            for ids in asked
        ]

    @torch.inference_mode()
    def generate(
        self, image: np.ndarray, query: str | FormedQuery, *, max_query_characters: int = 2000
    ) -> tuple[EncodedImage, Generated]:
        """Answer one query about uint8 RGB (H, W, 3), no masks made, every state in reach.

        Raises:
            QueryError: the query cannot be asked, see :meth:`predict`.
        """
        ids = self._prompt_ids(query, max_query_characters)
        if isinstance(ids, QueryError):
            raise ids
        encoded = encode_image(self.model, image)
        return encoded, self._generate(read_opening(self.model, ids, encoded), ids)

    def _prompt_ids(self, query: str | FormedQuery, max_characters: int) -> list[int] | QueryError:
        settings = self.model.settings.prompt
        asked = FormedQuery(query) if isinstance(query, str) else query
        try:
            checked = check_query(asked.text, max_characters)
            text = prompt(question(checked, settings, asked.form), settings)
        except QueryError as error:
            return error
        return self.tokenizer.encode_prompt(text)

    def _answer(
        self, image: EncodedImage, opening: Opening, prompt_ids: list[int], encode_seconds: float
    ) -> Answer | QueryError:
        begun = time.perf_counter()
        try:
            generated = self._generate(opening, prompt_ids)
        except QueryError as error:
            return error
        answered = time.perf_counter()
        found = self._segments(image, generated)
        return Answer(
            text=self.tokenizer.decode(generated.ids).strip(),
            present=any(segment.mask.any() for segment in found),
            seg_probability=max(generated.seg_probabilities),
            segments=found,
            seconds=EngineSeconds(encode_seconds, answered - begun, time.perf_counter() - answered),
        )

    def _generate(self, opening: Opening, prompt_ids: list[int]) -> Generated:
        return answer(
            self.model,
            opening,
            prompt_ids,
            seg_id=self.tokenizer.seg_id,
            eos_id=self.tokenizer.eos_id,
            max_new_tokens=self.model.settings.max_new_tokens,
        )

    def _segments(self, image: EncodedImage, generated: Generated) -> tuple[Segment, ...]:
        side = self.model.config.clip.side
        return tuple(
            _segment(mask, generated.seg_probabilities[step], side)
            for step, mask in segments(self.model, image, generated, self.tokenizer.seg_id)
        )

    def _finish(self) -> None:
        """Wait for the device, so that seconds are counted where they are spent."""
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)


def _segment(mask: SegMask, probability: float, side: int) -> Segment:
    points = mask.points
    empty = mask.view_points.new_zeros(0)
    return Segment(
        probability=probability,
        query_vector=_array(mask.query),
        similarity=_array(mask.similarity).reshape(side, side),
        points_xy=_array(mask.view_points if points is None else points.xy),
        point_labels=_array(empty if points is None else points.labels).astype(np.int8),
        point_similarity=_array(empty if points is None else points.similarity),
        mask=_array(mask.logits > 0),
        predicted_iou=float(mask.iou),
        stability=stability(mask.logits),
    )


def stability(logits: Tensor) -> float:
    """SAM's stability score of mask logits (H, W): IoU of the masks one logit stricter and laxer.

    After ``segment_anything.utils.amg.calculate_stability_score``, which counts in 16 bits and
    divides by zero where both masks are empty.
    """
    strict = int((logits > STABILITY_OFFSET).sum())
    lax = int((logits > -STABILITY_OFFSET).sum())
    return strict / lax if lax else 0.0


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()
