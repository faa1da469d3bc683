"""Answers: a cache that changes nothing, and states found where they were predicted."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch

from workers.read.errors import QueryError
from workers.read.inference import Generated, answer, encode_image, read_opening, segments
from workers.read.model import ReadModel
from workers.read.prompt import PromptSettings, prompt
from workers.read.tokenizer import ReadTokenizer

WORD = 40
Talker = Callable[[Sequence[int]], ReadModel]


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture
def ids(tokenizer: ReadTokenizer) -> list[int]:
    return tokenizer.encode_prompt(prompt("What is the red car?", PromptSettings()))


def ask(
    model: ReadModel, picture: np.ndarray, ids: list[int], tokenizer: ReadTokenizer, length: int = 8
) -> Generated:
    opening = read_opening(model, ids, encode_image(model, picture))
    return answer(
        model,
        opening,
        ids,
        seg_id=tokenizer.seg_id,
        eos_id=tokenizer.eos_id,
        max_new_tokens=length,
    )


def test_the_cache_changes_no_state(
    talker: Talker, picture: np.ndarray, ids: list[int], tokenizer: ReadTokenizer
) -> None:
    model = talker([WORD, tokenizer.seg_id, WORD + 1, tokenizer.eos_id])
    generated = ask(model, picture, ids, tokenizer)
    whole = torch.tensor([*ids, *generated.ids[:-1]])
    tokens = encode_image(model, picture).tokens
    hidden = model.hidden(model.embed(whole, tokens)[None])[0]
    torch.testing.assert_close(generated.hidden, hidden, rtol=1e-4, atol=1e-5)
    predicted = model.logits(hidden[-len(generated.ids) :]).argmax(dim=1)
    assert predicted.tolist() == list(generated.ids)


def test_the_answer_ends_with_the_end_token(
    talker: Talker, picture: np.ndarray, ids: list[int], tokenizer: ReadTokenizer
) -> None:
    said = [WORD, tokenizer.seg_id, tokenizer.eos_id]
    generated = ask(talker(said), picture, ids, tokenizer)
    assert list(generated.ids) == said
    assert generated.seg_probabilities[1] > 0.5 > generated.seg_probabilities[0]


def test_an_endless_answer_is_cut(
    talker: Talker, picture: np.ndarray, ids: list[int], tokenizer: ReadTokenizer
) -> None:
    model = talker([WORD, WORD])
    assert ask(model, picture, ids, tokenizer, length=5).ids == (WORD,) * 5


def test_every_seg_speaks_from_the_position_before_it(
    talker: Talker, picture: np.ndarray, ids: list[int], tokenizer: ReadTokenizer
) -> None:
    model = talker([tokenizer.seg_id, tokenizer.seg_id])
    image = encode_image(model, picture)
    generated = ask(model, picture, ids, tokenizer, length=3)
    found = list(segments(model, image, generated, tokenizer.seg_id))
    assert [step for step, _ in found] == [0, 1, 2]
    first = len(ids) - 1 + len(image.tokens) - 1
    for step, mask in found:
        query = model.query_head(generated.hidden[first + step])
        torch.testing.assert_close(mask.query, query)
        assert mask.logits.shape == picture.shape[:2]


def test_similarity_compares_with_the_image_tokens(
    model: ReadModel, picture: np.ndarray, ids: list[int], tokenizer: ReadTokenizer
) -> None:
    generated = ask(model, picture, ids, tokenizer)
    image = encode_image(model, picture)
    ((step, mask),) = segments(model, image, generated, tokenizer.seg_id)
    start = ids.index(tokenizer.im_start_id) + 1
    states = generated.hidden[start : start + 64]
    torch.testing.assert_close(mask.similarity, states @ generated.predicting(step))


def test_an_opening_can_be_used_again(
    model: ReadModel, picture: np.ndarray, ids: list[int], tokenizer: ReadTokenizer
) -> None:
    opening = read_opening(model, ids, encode_image(model, picture))
    roles = {"seg_id": tokenizer.seg_id, "eos_id": tokenizer.eos_id, "max_new_tokens": 8}
    first, second = (answer(model, opening, ids, **roles) for _ in range(2))
    assert first.ids == second.ids
    assert torch.equal(first.hidden, second.hidden)


def test_what_does_not_fit_the_context_is_refused(
    model: ReadModel, picture: np.ndarray, ids: list[int], tokenizer: ReadTokenizer
) -> None:
    room = model.config.llama.max_positions - (len(ids) - 1 + 64)
    assert ask(model, picture, ids, tokenizer, length=room).ids
    with pytest.raises(QueryError, match="over the model's 512"):
        ask(model, picture, ids, tokenizer, length=room + 1)


@pytest.mark.parametrize("images", [0, 2])
def test_a_prompt_has_one_image(model: ReadModel, picture: np.ndarray, images: int) -> None:
    with pytest.raises(QueryError, match=f"this one has {images}"):
        read_opening(model, [1, *[-200] * images, 5], encode_image(model, picture))
