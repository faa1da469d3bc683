"""Cases of kind ``tokenizer``: text to ids and back, questions to prompts."""

from collections.abc import Iterator

from workers.read.conformance.cases import CaseResult, count, failure
from workers.read.conformance.entries import without_image_tokens
from workers.read.conformance.subject import PERSONS, Subject
from workers.read.prompt import PromptSettings, prompt
from workers.read.tokenizer import IMAGE_TOKEN_ID, ReadTokenizer

ROW_KEYS = {
    "strings": {"text", "ids", "ids_nospecial", "decode", "decode_skip"},
    "prompts": {"case", "template", "question", "answer", "use_im_start_end", "prompt", "ids"},
}
"""Keys of the recorded rows: what ids and texts are made from, and those that are compared."""

SPECIAL = {
    "SEG": "seg_id",
    "im_start": "im_start_id",
    "im_end": "im_end_id",
    "bos": "bos_id",
    "eos": "eos_id",
    "unk": "unk_id",
    "pad": "pad_id",
}


def names(subject: Subject, kind: str) -> list[str]:
    """Every recorded file of the kind is a case."""
    return subject.files(kind)


def run(subject: Subject, kind: str, name: str) -> Iterator[CaseResult]:
    """Count the texts whose ids, decoding or prompt differ."""
    recorded, tokenizer = subject.text(name), subject.tokenizer
    parts = {
        "strings": _strings(recorded["strings"], tokenizer),
        "prompts": _prompts(recorded["prompts"], tokenizer),
        "special": _special(recorded["special"], tokenizer),
        "vocab_len": {"": int(recorded["vocab_len"] != len(tokenizer))},
    }
    for part, differing in parts.items():
        for array, number in differing.items():
            yield count(name, kind, f"{part}.{array}" if array else part, number)
    for part, known in ROW_KEYS.items():
        for key in sorted({key for row in recorded[part] for key in row} - known):
            yield failure(name, kind, f"{part}.{key} (nothing computed to compare it with)")
    for part in recorded.keys() - parts.keys():
        yield failure(name, kind, f"{part} (nothing computed to compare it with)")


def _strings(rows: list[dict], tokenizer: ReadTokenizer) -> dict[str, int]:
    differing = {"ids": 0, "ids_nospecial": 0, "decode": 0, "decode_skip": 0}
    for row in rows:
        ours = {
            "ids": tokenizer.encode(row["text"]),
            "ids_nospecial": tokenizer.encode(row["text"], bos=False),
            "decode": tokenizer.decode(row["ids"], skip_special=False),
            "decode_skip": tokenizer.decode(row["ids"]),
        }
        for array in differing:
            differing[array] += ours[array] != row[array]
    return differing


def _prompts(rows: list[dict], tokenizer: ReadTokenizer) -> dict[str, int]:
    """Texts and ids of every prompt, with and without the tokens around the image."""
    differing = {"ids": 0, "prompt": 0}
    for row in rows:
        differing["ids"] += tokenizer.encode_prompt(row["prompt"]) != row["ids"]
        settings = PromptSettings.from_dict({"person": PERSONS[row["template"]]})
        ours = prompt(row["question"], settings, row["answer"])
        ours = ours if row["use_im_start_end"] else without_image_tokens(ours)
        differing["prompt"] += ours != row["prompt"]
    return differing


def _special(recorded: dict[str, int], tokenizer: ReadTokenizer) -> dict[str, int]:
    """Whether each special id, by its recorded name, is another one than ours."""
    ours = {key: getattr(tokenizer, attribute) for key, attribute in SPECIAL.items()}
    ours["image_token_index"] = IMAGE_TOKEN_ID
    return {key: int(ours.get(key) != id_) for key, id_ in recorded.items()}
