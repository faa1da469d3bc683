"""Masks of other points: the stored ones give the stored mask, others move it."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from workers.read.engine import Answer, ReadEngine
from workers.read.errors import ReadError
from workers.read.repointing import (
    PromptPoints,
    embed,
    from_bytes,
    mask_queries,
    refine,
    size_of,
    to_bytes,
)


@pytest.fixture(scope="module")
def engine(repository: Path) -> ReadEngine:
    return ReadEngine.load(repository / "configs" / "models" / "tiny")


@pytest.fixture(scope="module")
def picture(repository: Path) -> NDArray[np.uint8]:
    with Image.open(repository / "configs/demo/images/scene-201-00003.jpg") as image:
        return np.array(image.convert("RGB"))


@pytest.fixture(scope="module")
def answer(engine: ReadEngine, picture: NDArray[np.uint8]) -> Answer:
    answers = engine.predict(picture, ["the red circle", "the blue square", "the circle"])
    present = [a for a in answers if isinstance(a, Answer) and a.present and len(a.segments) == 1]
    assert present
    return present[0]


def points(answer: Answer) -> PromptPoints:
    (segment,) = answer.segments
    # As stored: vectors and points go through 32-bit floats.
    return PromptPoints(segment.points_xy, segment.point_labels.astype(np.int64))


def vectors(answer: Answer) -> list[list[float]]:
    return [segment.query_vector.tolist() for segment in answer.segments]


def test_stored_points_and_vector_give_exactly_the_stored_mask(
    engine: ReadEngine, picture: NDArray[np.uint8], answer: Answer
) -> None:
    again = refine(engine.model, embed(engine.model, picture), vectors(answer), [points(answer)])
    (segment,) = answer.segments
    assert np.array_equal(again.mask, segment.mask)
    assert again.predicted_iou == segment.predicted_iou
    assert again.stability == segment.stability


def test_an_embedding_survives_as_bytes(
    engine: ReadEngine, picture: NDArray[np.uint8], answer: Answer
) -> None:
    image = embed(engine.model, picture)
    content = to_bytes(image)
    again = refine(
        engine.model, from_bytes(content, engine.model), vectors(answer), [points(answer)]
    )
    assert np.array_equal(again.mask, answer.segments[0].mask)
    assert size_of(image) < len(content) < size_of(image) + 1_000


def test_foreign_embeddings_and_vectors_are_refused(
    engine: ReadEngine, picture: NDArray[np.uint8], answer: Answer
) -> None:
    image = embed(engine.model, picture)
    with pytest.raises(ReadError, match="not an image embedding"):
        from_bytes(to_bytes(image)[:100], engine.model)
    with pytest.raises(ReadError, match="vectors of"):
        refine(engine.model, image, [[0.0] * 3], [points(answer)])
    with pytest.raises(ReadError, match="vectors of"):
        refine(engine.model, image, [], [])


def test_several_vectors_make_the_union(
    engine: ReadEngine, picture: NDArray[np.uint8], answer: Answer
) -> None:
    image = embed(engine.model, picture)
    first, other = vectors(answer)[0], [-value for value in vectors(answer)[0]]
    none = PromptPoints(np.zeros((0, 2), np.float32), np.zeros(0, np.int64))
    apart = [
        refine(engine.model, image, [vector], [chosen]).mask
        for vector, chosen in ((first, points(answer)), (other, none))
    ]
    together = refine(engine.model, image, [first, other], [points(answer), none])
    assert (apart[0] != apart[1]).any()
    assert np.array_equal(together.mask, apart[0] | apart[1])


def test_mask_queries_are_those_of_the_answer(
    engine: ReadEngine, picture: NDArray[np.uint8]
) -> None:
    texts = ["the red circle", "the blue square", "the circle"]
    answers = engine.predict(picture, texts)
    for text, found in zip(texts, answers, strict=True):
        assert isinstance(found, Answer)
        made = mask_queries(engine, picture, text)
        assert len(made) == max(1, len(found.segments))
        for vector, segment in zip(made, found.segments, strict=False):
            np.testing.assert_allclose(vector, segment.query_vector, atol=1e-6)
