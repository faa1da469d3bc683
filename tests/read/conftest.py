"""A random READ checkpoint of tiny sizes, and the reference numbers of a real one."""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from workers.read.checkpoint import load_model, save_model
from workers.read.config import (
    ClipSizes,
    ClipViewSettings,
    LlamaSizes,
    ReadConfig,
    ReadSettings,
    SamSizes,
)
from workers.read.engine import ReadEngine
from workers.read.model import ReadModel
from workers.read.prompt import PHRASE, SYSTEM
from workers.read.tokenizer import ReadTokenizer

PIECES = 120
SEG, IM_START, IM_END = PIECES, PIECES + 1, PIECES + 2
EOS = 2
SIZES = ReadConfig(
    llama=LlamaSizes(
        vocab=PIECES + 3,
        hidden=64,
        intermediate=96,
        layers=2,
        heads=4,
        key_value_heads=4,
        max_positions=512,
    ),
    clip=ClipSizes(hidden=32, intermediate=48, layers=3, heads=2, image=112, patch=14),
    sam=SamSizes(grid=6, embed=32, heads=2, windows=(4, 0), mlp=64, prompt=64, decoder_mlp=48),
    clip_view=ClipViewSettings(112, 112),
)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def sizes() -> ReadConfig:
    """Sizes unlike the releases': 8 x 8 image tokens, a SAM view of 96 pixels."""
    return SIZES


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint in the released layout that answers every query with ``[SEG]``."""
    folder = tmp_path_factory.mktemp("tiny-read")
    _write_tokenizer(folder)
    save_model(talking_model([SEG, EOS]), folder)
    return folder


@pytest.fixture
def write_tokenizer() -> Callable[[Path], tuple[int, list[int]]]:
    """Write a tokenizer's files; returns the last token of every prompt, and ``[SEG]`` and end."""

    def write(folder: Path) -> tuple[int, list[int]]:
        _write_tokenizer(folder)
        return _colon(), [SEG, EOS]

    return write


@pytest.fixture
def model(tiny_folder: Path) -> ReadModel:
    """The random checkpoint, loaded anew for each test."""
    return load_model(tiny_folder)


@pytest.fixture(scope="session")
def tokenizer(tiny_folder: Path) -> ReadTokenizer:
    """The random checkpoint's tokenizer."""
    return ReadTokenizer.from_folder(tiny_folder)


@pytest.fixture
def engine(model: ReadModel, tokenizer: ReadTokenizer) -> ReadEngine:
    """An engine on the random checkpoint."""
    return ReadEngine(model, tokenizer, "v1", "float32")


@pytest.fixture
def talker() -> Callable[[Sequence[int]], ReadModel]:
    """Make a random model that answers with given tokens."""
    return lambda answer: talking_model(answer).eval()


@pytest.fixture
def picture() -> np.ndarray:
    """A random picture (60, 90, 3)."""
    return np.random.default_rng(5).integers(0, 256, (60, 90, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def goldens(shared: Path) -> Path:
    """Reference numbers of the original program; its README explains every array."""
    return shared / "goldens" / "read"


@pytest.fixture(scope="session")
def manifest(goldens: Path) -> dict:
    """All cases of the reference numbers."""
    return json.loads((goldens / "manifest.json").read_text())


def talking_model(answer: Sequence[int], seed: int = 3) -> ReadModel:
    """A random model whose answer, whatever it is asked, starts with the tokens of ``answer``.

    The residual stream carries mostly the last token, so scoring each next token with the token
    before it makes a chain; the last token of a prompt, ":", begins it.
    """
    torch.manual_seed(seed)
    model = ReadModel(SIZES, replace(ReadSettings(), max_new_tokens=8))
    embeddings = torch.nn.init.normal_(model.llama.model.embed_tokens.weight).detach()
    with torch.no_grad():
        model.llama.lm_head.weight.mul_(0.1)
        for before, token in zip([_colon(), *answer], answer, strict=False):
            model.llama.lm_head.weight[token] += embeddings[before]
    return model


def _colon() -> int:
    pieces = SentencePieceProcessor()
    pieces.LoadFromSerializedProto(_pieces())
    return pieces.PieceToId(":")


def _pieces() -> bytes:
    """A SentencePiece model of the prompt's own words."""
    text = [SYSTEM, PHRASE, "USER: ASSISTANT: 0123456789 abcdefghijklmnopqrstuvwxyz"]
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(text),
        model_writer=model,
        vocab_size=PIECES,
        model_type="bpe",
        minloglevel=2,
    )
    return model.getvalue()


def _write_tokenizer(folder: Path) -> None:
    added = {"[SEG]": SEG, "<im_start>": IM_START, "<im_end>": IM_END}
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"}
    (folder / "tokenizer.model").write_bytes(_pieces())
    for name, content in (
        ("added_tokens", added),
        ("special_tokens_map", special),
        ("tokenizer_config", {}),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content))
