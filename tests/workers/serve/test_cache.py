"""Embeddings in memory and in the store."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.storage.settings import S3Settings
from pipeline.storage.store import Store, open_store
from workers.read.engine import ReadEngine
from workers.read.masks import EmbeddedImage
from workers.read.model import ReadModel
from workers.read.repointing import embed, size_of
from workers.serve.cache import EmbeddingCache


@pytest.fixture(scope="module")
def model(repository: Path) -> ReadModel:
    return ReadEngine.load(repository / "configs" / "models" / "tiny").model


class Encoder:
    """Encodes noise and counts how often."""

    def __init__(self, model: ReadModel) -> None:
        self.model = model
        self.calls = 0

    def __call__(self) -> EmbeddedImage:
        """Encode other noise each time."""
        self.calls += 1
        noise = np.random.default_rng(self.calls).integers(0, 255, (40, 60, 3), np.uint8)
        return embed(self.model, noise)


@pytest.fixture
def encode(model: ReadModel) -> Encoder:
    return Encoder(model)


def test_a_held_image_is_not_encoded_again(model: ReadModel, encode: Encoder) -> None:
    cache = EmbeddingCache(10**9, None)
    first = cache.get("a", "v", model, encode)
    assert cache.get("a", "v", model, encode) is first
    assert cache.get("a", "other weights", model, encode) is not first
    assert encode.calls == cache.encoded == 2


def test_memory_is_bounded_and_the_oldest_go(model: ReadModel, encode: Encoder) -> None:
    cache = EmbeddingCache(2 * size_of(encode()), None)
    for name in ("a", "b", "a", "c"):
        cache.get(name, "v", model, encode)
    assert encode.calls == 4
    cache.get("a", "v", model, encode)
    cache.get("c", "v", model, encode)
    assert encode.calls == 4
    cache.get("b", "v", model, encode)
    assert encode.calls == 5


def test_the_store_keeps_what_memory_forgets(
    model: ReadModel, encode: Encoder, tmp_path: Path
) -> None:
    store: Store = open_store(str(tmp_path), S3Settings())
    first = EmbeddingCache(10**9, store).get("a", "v", model, encode)
    later = EmbeddingCache(10**9, store)
    again = later.get("a", "v", model, encode)
    assert (encode.calls, later.encoded) == (1, 0)
    assert torch.equal(first.embedding, again.embedding)
    assert (first.image_hw, first.resized_hw) == (again.image_hw, again.resized_hw)
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-10])
    EmbeddingCache(10**9, store).get("a", "v", model, encode)
    assert encode.calls == 2
