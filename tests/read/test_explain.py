"""Inside an answer: the maps are the model's own, the masks those of its one path."""

import io
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from workers.read.engine import ReadEngine
from workers.read.errors import QueryError
from workers.read.explain import (
    Explanation,
    SegInside,
    above_half,
    agreement,
    explain,
    iou,
    spearman,
)
from workers.read.figure import figure
from workers.read.model import ReadModel
from workers.read.tokenizer import ReadTokenizer

LEFT = np.zeros((40, 60), dtype=bool)
LEFT[:, :30] = True
RAMP = np.tile(np.linspace(1, 0, 60, dtype=np.float32), (40, 1))


def inside(language: np.ndarray, decoder: np.ndarray) -> SegInside:
    """A ``[SEG]`` whose mask is the left half; without points, nothing."""
    points = np.float32([[10, 20], [50, 20]]), np.int64([1, 0])
    return SegInside(language, decoder, *points, LEFT, LEFT, np.zeros_like(LEFT))


def test_masks_points_and_map_are_those_of_the_prediction(
    engine: ReadEngine, picture: np.ndarray
) -> None:
    (answer,) = engine.predict(picture, ["the road"])
    found = explain(engine, picture, "the road")
    (seen,), (segment,) = found.segments, answer.segments
    assert found.text == answer.text
    assert np.array_equal(seen.mask, segment.mask)
    assert np.array_equal(seen.with_points, segment.mask)
    assert np.array_equal(seen.language_map, segment.similarity)
    assert np.array_equal(seen.points_xy, segment.points_xy)
    engine.model.settings = replace(engine.model.settings, sasp=None)
    (plain,) = engine.predict(picture, ["the road"])
    assert np.array_equal(seen.without_points, plain.segments[0].mask)


def test_a_checkpoint_without_sasp_is_shown_with_it_as_well(
    engine: ReadEngine, picture: np.ndarray
) -> None:
    (expected,) = explain(engine, picture, "the road").segments
    engine.model.settings = replace(engine.model.settings, sasp=None)
    (seen,) = explain(engine, picture, "the road").segments
    assert np.array_equal(seen.mask, seen.without_points)
    assert np.array_equal(seen.with_points, expected.with_points)
    assert len(seen.points_xy) == 16  # the cells of a 4 x 4 map


def test_the_decoder_map_compares_the_query_with_image_tokens(
    engine: ReadEngine, picture: np.ndarray
) -> None:
    """An untouched decoder returns its prompt: a query like one image cell lights up that cell."""
    grid, prompt = engine.model.config.sam.grid, engine.model.config.sam.prompt
    image_tokens = torch.zeros(1, grid * grid, prompt)
    image_tokens[0, 1] = 1.0
    real = engine.model.sam.mask_decoder.transformer.forward

    def forward(*inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        prompts, _ = real(*inputs)
        prompts = prompts.clone()
        prompts[:, -1] = 1.0
        return prompts, image_tokens

    engine.model.sam.mask_decoder.transformer.forward = forward
    (seen,) = explain(engine, picture, "the road").segments
    assert seen.decoder_map.shape == picture.shape[:2]
    y, x = np.unravel_index(seen.decoder_map.argmax(), seen.decoder_map.shape)
    assert (y, x) == (pytest.approx(8, abs=8), pytest.approx(22, abs=6))  # cell (0, 1) of 4 x 6


def test_maps_and_mask_are_compared_where_they_lie() -> None:
    ramp = np.tile(np.linspace(1, 0, 8, dtype=np.float32), (8, 1))
    numbers = agreement(inside(ramp, RAMP))
    assert numbers.spearman == pytest.approx(1)
    assert numbers.decoder_iou == 1
    assert numbers.language_iou == pytest.approx(20 / 30)  # nothing is known left of the square
    assert numbers.sasp_iou == 0
    assert agreement(inside(-ramp, RAMP)).spearman == pytest.approx(-1)
    assert agreement(inside(np.zeros((8, 8), np.float32), RAMP)).spearman is None


def test_ranks_decide_and_ties_share_them() -> None:
    assert spearman(np.array([1, 2, 2, 9]), np.array([3, 5, 5, 6])) == pytest.approx(1)
    assert spearman(np.array([1, 2, 3]), np.array([1, 1, 2])) == pytest.approx(0.8660254)
    assert iou(LEFT, ~LEFT) == 0
    assert iou(LEFT & False, LEFT & False) is None
    assert not above_half(np.ones((3, 3))).any()


@pytest.mark.parametrize(("answer", "count"), [([2], 0), ([120, 120], 8)])
def test_any_number_of_seg_is_drawn(
    talker: Callable[[Sequence[int]], ReadModel],
    tokenizer: ReadTokenizer,
    picture: np.ndarray,
    answer: list[int],
    count: int,
) -> None:
    engine = ReadEngine(talker(answer), tokenizer, "v1", "float32")
    found = explain(engine, picture, "the road")
    assert len(found.segments) == count
    drawn = Image.open(io.BytesIO(figure(picture, "the road", found)))
    assert drawn.format == "PNG"
    assert drawn.width >= 640 * (3 if count else 1)


def test_panels_show_what_they_say() -> None:
    gray = np.full((320, 640, 3), 100, dtype=np.uint8)
    mask = np.zeros((320, 640), dtype=bool)
    mask[:, :320] = True
    ramp = np.tile(np.linspace(1, 0, 640, dtype=np.float32), (320, 1))
    points = np.float32([[160, 160]]), np.int64([1])
    seen = SegInside(np.eye(8, dtype=np.float32), ramp, *points, mask, mask, ~mask)
    drawn = np.asarray(Image.open(io.BytesIO(figure(gray, "it", Explanation("It.", (seen,))))))
    height = drawn.shape[0]
    rows = [
        y for y in range(height) if (drawn[y, 20] != 255).any() and (drawn[y, 630] != 255).any()
    ]
    first, second = rows[0] + 40, rows[-1] - 40
    assert (drawn[first, 100] == 100).all()
    assert drawn[first, 2 * 648 + 40].sum() > drawn[first, 2 * 648 + 600].sum() + 200
    assert drawn[second, 648 + 100, 2] > 150  # blue: with points
    assert (drawn[second, 648 + 600] == 100).all()
    assert drawn[second, 2 * 648 + 600, 0] > 150  # orange: without


def test_a_query_that_cannot_be_asked_raises(engine: ReadEngine, picture: np.ndarray) -> None:
    with pytest.raises(QueryError):
        explain(engine, picture, " ")
