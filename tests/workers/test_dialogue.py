"""Plain dialogue: true answers, and a loss that is the model's own."""

from pathlib import Path

import pytest
import torch

from workers.dialogue import SEED, plain_dialogue
from workers.read.dialogue import answer_loss
from workers.read.engine import ReadEngine
from workers.read.errors import QueryError
from workers.read.inference import answer, encode_image, read_opening
from workers.read.prompt import prompt
from workers.scenes import describe


@pytest.fixture(scope="module")
def engine(repository: Path) -> ReadEngine:
    return ReadEngine.load(repository / "configs" / "models" / "tiny")


def test_turns_tell_what_the_pictures_show() -> None:
    turns = list(plain_dialogue())
    assert len(turns) == 32
    assert len({turn.answer for turn in turns}) > 24
    names = [item.name for item in describe(SEED, 0)[1]]
    assert all(name in turns[1].answer for name in names)
    assert not any("[SEG]" in turn.answer for turn in turns)


def test_the_loss_is_that_of_each_token_after_those_before_it(engine: ReadEngine) -> None:
    turn = next(plain_dialogue())
    said = "Sure."
    found = answer_loss(engine, turn.image, turn.question, said)
    settings = engine.model.settings.prompt
    ids = engine.tokenizer.encode_prompt(prompt(turn.question, settings))
    whole = engine.tokenizer.encode_prompt(prompt(turn.question, settings, said))
    nats = 0.0
    with torch.inference_mode():
        image = encode_image(engine.model, turn.image)
        for length in range(len(ids), len(whole)):
            opening = read_opening(engine.model, whole[:length], image)
            one = answer(
                engine.model, opening, whole[:length], seg_id=0, eos_id=0, max_new_tokens=1
            )
            logits = engine.model.logits(one.hidden[-1])
            nats -= float(logits.log_softmax(0)[whole[length]])
    assert found.tokens == len(whole) - len(ids)
    assert found.nats == pytest.approx(nats, rel=1e-4)


def test_an_answer_beyond_the_context_is_refused(engine: ReadEngine) -> None:
    turn = next(plain_dialogue())
    with pytest.raises(QueryError, match="context"):
        answer_loss(engine, turn.image, "x " * 3000, turn.answer)
