"""The tiny model's tokenizer: SentencePiece, trained on scene language and some plain English."""

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import sentencepiece

from workers.read.prompt import PromptSettings, prompt, question
from workers.scenes import HARD, describe
from workers.tiny.recipe import ADDED_TOKENS, VOCABULARY

ANSWER = "Sure, it is [SEG]."
_SEED = 7
_PLAIN = (
    "A street with cars, buses and people on the pavement under a cloudy sky.",
    "The road runs past houses, trees, a fence and a traffic light.",
    "A pedestrian crosses the street while a cyclist waits beside a parked car.",
    "What is the animal that is sitting on the table in this photograph?",
    "Yes, there are two dogs in the picture, and one of them is brown.",
    "Which part of the image shows the building with the blue door?",
    "The person in the green jacket holds a bag in the left hand.",
    "I cannot see any bicycle here, but there is a sign near the wall.",
    "Something that could be used to carry water from the river to the garden.",
    "Please describe what you see, how many there are and where they stand.",
    "sky road car pedestrian building tree sign fence pole bicyclist sidewalk",
    "0 1 2 3 4 5 6 7 8 9 10 one two three four five six seven eight nine ten",
)


def train_tokenizer(folder: str | Path, scenes: int = 1500) -> None:
    """Train the tokenizer on so many scenes and write the four files a checkpoint keeps of it.

    Any text can be encoded: characters never seen become bytes.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=_sentences(scenes),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCABULARY,
        byte_fallback=True,
        character_coverage=1.0,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        num_threads=1,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    _write_json(
        folder / "added_tokens.json",
        {token: VOCABULARY + place for place, token in enumerate(ADDED_TOKENS)},
    )
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"}
    _write_json(folder / "special_tokens_map.json", special)
    _write_json(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": True,
            "add_eos_token": False,
            "clean_up_tokenization_spaces": False,
            "legacy": True,
            "model_max_length": 512,
            "padding_side": "right",
            "tokenizer_class": "LlamaTokenizer",
            **special,
        },
    )


def _sentences(scenes: int) -> Iterator[str]:
    """Yield prompts and answers of generated scenes, without added tokens, and plain English."""
    settings = PromptSettings()
    for index in range(scenes):
        for query in describe(_SEED, index, HARD)[2]:
            text = prompt(question(query.text, settings), settings, query.denial or ANSWER)
            for token in (*ADDED_TOKENS, "<image>", "</s>"):
                text = text.replace(token, "\n")
            yield from (part.strip() for part in text.split("\n") if part.strip())
    for _ in range(20):
        yield from _PLAIN


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
