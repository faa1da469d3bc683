"""The tokenizer gives the original's ids and text, and says what a folder lacks."""

import io
import json
import shutil
from pathlib import Path

import pytest
import sentencepiece

from workers.read.errors import CheckpointError
from workers.read.tokenizer import IMAGE_TOKEN_ID, ReadTokenizer

ADDED = {"[SEG]": 70, "<im_start>": 71, "<im_end>": 72}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokenizer files of a checkpoint, with a vocabulary trained here."""
    folder = tmp_path_factory.mktemp("tokenizer")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the red ball is on the blue box.", "USER: where is it?"] * 20),
        model_writer=model,
        vocab_size=70,
        model_type="bpe",
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    (folder / "added_tokens.json").write_text(json.dumps(ADDED))
    special = {"bos_token": {"content": "<s>"}, "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<unk>"}))
    return folder


def test_ids_come_from_the_folder(folder: Path) -> None:
    tokenizer = ReadTokenizer.from_folder(folder)
    assert (tokenizer.seg_id, tokenizer.im_start_id, tokenizer.im_end_id) == (70, 71, 72)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (1, 2, 0)
    assert len(tokenizer) == 73


def test_text_around_added_tokens_is_stripped_and_starts_a_new_word(folder: Path) -> None:
    tokenizer = ReadTokenizer.from_folder(folder)
    assert tokenizer.encode("the ball [SEG].") == tokenizer.encode("the ball[SEG] .")
    assert tokenizer.encode("[SEG].", bos=False) == [70, *tokenizer.encode(".", bos=False)]
    assert tokenizer.encode("<im_end>\nit", bos=False) == [72, *tokenizer.encode("it", bos=False)]


def test_spaces_around_special_tokens_stay(folder: Path) -> None:
    tokenizer = ReadTokenizer.from_folder(folder)
    expected = [*tokenizer.encode("it ", bos=False), 2, *tokenizer.encode(" is", bos=False)]
    assert tokenizer.encode("it </s> is", bos=False) == expected


def test_the_image_is_a_placeholder_id(folder: Path) -> None:
    ids = ReadTokenizer.from_folder(folder).encode_prompt("<im_start><image><im_end>")
    assert ids == [1, 71, IMAGE_TOKEN_ID, 72]


def test_decoding_leaves_special_tokens_out(folder: Path) -> None:
    tokenizer = ReadTokenizer.from_folder(folder)
    ids = tokenizer.encode("the ball is [SEG].</s>")
    assert tokenizer.decode(ids) == "the ball is [SEG] ."
    assert tokenizer.decode(ids, skip_special=False) == "<s>the ball is [SEG]  .</s>"


@pytest.mark.parametrize("part", ["strings", "prompts"])
def test_every_recorded_text_has_the_originals_ids(shared: Path, part: str) -> None:
    root = shared / "goldens" / "read"
    tokenizer = ReadTokenizer.from_folder(root / "checkpoint")
    for row in json.loads((root / "goldens" / "tokenizer.json").read_text())[part]:
        text = row.get("prompt") or row["text"]
        assert tokenizer.encode_prompt(text) == row["ids"], text


def test_every_recorded_text_decodes_as_the_original_does(shared: Path) -> None:
    root = shared / "goldens" / "read"
    tokenizer = ReadTokenizer.from_folder(root / "checkpoint")
    for row in json.loads((root / "goldens" / "tokenizer.json").read_text())["strings"]:
        assert tokenizer.decode(row["ids"], skip_special=False) == row["decode"]
        assert tokenizer.decode(row["ids"]) == row["decode_skip"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.model", b"no model", "not a SentencePiece model"),
        ("added_tokens.json", b'{"[SEG]": 70}', "no token <im_start>, <im_end>"),
        ("added_tokens.json", b"{", "cannot be read"),
        ("special_tokens_map.json", b"{}", "no bos_token"),
    ],
)
def test_a_folder_with_a_wrong_file_is_refused(
    folder: Path, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}.*{message}"):
        ReadTokenizer.from_folder(copy)


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.model"):
        ReadTokenizer.from_folder(tmp_path)
