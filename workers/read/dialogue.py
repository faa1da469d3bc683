"""How well a model still talks: teacher-forced loss of given answers, no masks made.

Fine-tuning on segmentation can ruin what a language model said before. The loss of plain answers
shows that where the masks do not.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from workers.read.engine import ReadEngine
from workers.read.errors import QueryError
from workers.read.images import clip_view
from workers.read.prompt import prompt


@dataclass(frozen=True, slots=True)
class AnswerLoss:
    """Summed negative log-likelihood, in nats, of an answer's ``tokens``, end token included."""

    nats: float
    tokens: int


@torch.inference_mode()
def answer_loss(engine: ReadEngine, image: np.ndarray, question: str, answer: str) -> AnswerLoss:
    """Judge an answer to a question, asked as it is, about uint8 RGB (H, W, 3).

    Raises:
        QueryError: question and answer do not fit the model's context.
    """
    model, settings = engine.model, engine.model.settings.prompt
    asked = engine.tokenizer.encode_prompt(prompt(question, settings))
    ids = engine.tokenizer.encode_prompt(prompt(question, settings, answer))
    view = torch.from_numpy(clip_view(image, model.config.clip_view)).to(model.device)
    tokens = model.image_tokens(model.clip_features(view[None]))[0]
    if len(ids) + len(tokens) > model.config.llama.max_positions:
        raise QueryError("question and answer do not fit the model's context")
    whole = torch.tensor(ids, device=model.device)
    count = len(ids) - len(asked)
    states = model.hidden(model.embed(whole, tokens)[None])[0, -count - 1 : -1]
    nats = functional.cross_entropy(model.logits(states), whole[-count:], reduction="sum")
    return AnswerLoss(float(nats), count)
