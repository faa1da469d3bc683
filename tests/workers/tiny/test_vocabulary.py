"""The tokenizer speaks scenes in whole words, and any other text in pieces and bytes."""

import pytest

from workers.read.tokenizer import ReadTokenizer
from workers.tiny.recipe import ADDED_TOKENS, VOCABULARY


def test_added_tokens_follow_the_pieces(tokenizer: ReadTokenizer) -> None:
    assert len(tokenizer) == VOCABULARY + len(ADDED_TOKENS)
    assert tokenizer.seg_id == VOCABULARY


@pytest.mark.parametrize("word", ["red", "circle", "segmentation", "assistant", "there"])
def test_words_of_scenes_are_single_tokens(tokenizer: ReadTokenizer, word: str) -> None:
    assert len(tokenizer.encode(word, bos=False)) == 1


@pytest.mark.parametrize("text", ["a zebra", "Straße 7", "日本語", "🙂", "tab\tnewline\n"])
def test_any_text_survives(tokenizer: ReadTokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text
