"""Queries become the questions and prompts that the checkpoints were trained with."""

import json
from pathlib import Path

import pytest

from workers.read.errors import CheckpointError, QueryError
from workers.read.prompt import PromptSettings, check_query, is_sentence, prompt, question


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("the road", False),
        ("car", False),
        ("which", False),
        ("whatever lies on the table", False),
        ("Show both the box and the ball.", True),
        ("Where is the box?", True),
        ("which fruit has the most vitamin C", True),
        ("哪个是猫\uff1f", True),
    ],
)
def test_a_sentence_ends_as_one_or_asks(query: str, sentence: bool) -> None:
    assert is_sentence(query) is sentence


def test_phrases_and_sentences_have_their_templates() -> None:
    settings = PromptSettings()
    assert question("the road", settings) == (
        "What is the road in this image? Please output segmentation mask."
    )
    assert question("Where is it?", settings) == "Where is it? Please output segmentation mask."


def test_a_form_that_is_told_overrules_the_looks() -> None:
    settings = PromptSettings()
    assert question("who is left", settings, "phrase").startswith("What is who is left in this")
    assert question("find it", settings, "sentence") == "find it Please output segmentation mask."


def test_presence_is_asked_of_phrases_only() -> None:
    settings = PromptSettings(ask_presence=True)
    assert question("a {cat}", settings).startswith("Can you confirm if a {cat} is present")
    assert question("a {cat}", settings).endswith("mistaken for a {cat}.")
    assert question("Where is it?", settings) == "Where is it? Please output segmentation mask."


def test_every_recorded_prompt_is_built_from_its_question(shared: Path) -> None:
    root = shared / "goldens" / "read" / "goldens"
    persons = {"llava_v1": "human", "vicuna_v1": "user"}
    rows = json.loads((root / "tokenizer.json").read_text())["prompts"]
    for row in (row for row in rows if row["use_im_start_end"]):
        settings = PromptSettings.from_dict({"person": persons[row["template"]]})
        assert prompt(row["question"], settings, row["answer"]) == row["prompt"]


def test_settings_survive_json() -> None:
    settings = PromptSettings(person="user", phrase="Find {query}.", ask_presence=True)
    assert PromptSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"persona": "human"}, "no setting persona; known: ask_presence"),
        ({"person": "robot"}, "person is 'robot'"),
        ({"phrase": "What?"}, "phrase is 'What\\?'"),
        ({"ask_presence": "yes"}, "ask_presence is 'yes'"),
    ],
)
def test_wrong_settings_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        PromptSettings.from_dict(values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (" \n\t", "is empty"),
        ("x" * 10_000, "has 10000 characters, more than 2000"),
        ("the \ud800 cat", "not valid Unicode"),
        ("a <image> of it", "holds <image>"),
        ("a [SEG]", "holds \\[SEG\\]"),
    ],
)
def test_queries_that_cannot_be_asked_say_why(text: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        check_query(text, max_characters=2000)


def test_white_space_in_a_query_is_collapsed() -> None:
    assert check_query("  the\n red   car ", 100) == "the red car"
