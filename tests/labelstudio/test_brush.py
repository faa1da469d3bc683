"""The brush codec against the SDK's own, and against streams no encoder would make."""

import contextlib
import tracemalloc
from collections.abc import Callable
from itertools import groupby
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from label_studio_sdk.converter.brush import decode_rle, mask2rle

from labelstudio.brush import BrushError, decode, encode

Mask = np.ndarray[tuple[int, ...], np.dtype[Any]]
Samples = Callable[[str], list[dict[str, Any]]]

shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))
masks = hnp.arrays(np.bool_, shapes)
soft_masks = hnp.arrays(np.uint8, shapes)
images = hnp.arrays(
    np.uint8,
    st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(4)),
    elements=st.sampled_from([0, 7, 255]),
)


@st.composite
def ragged_masks(draw: st.DrawFn) -> Mask:
    """Noise in blocks of some pixels, up to 300 pixels a side."""
    height, width, block = (draw(st.integers(1, most)) for most in (300, 300, 5))
    noise = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    drawn = noise.random((-(-height // block), -(-width // block))) < draw(st.floats(0, 1))
    return np.kron(drawn, np.ones((block, block), bool))[:height, :width]


@st.composite
def any_streams(draw: st.DrawFn) -> tuple[list[int], int, int]:
    """A stream of any word and run sizes with repeats and literals, and its height and width."""
    height, width, word_bits = (draw(st.integers(1, most)) for most in (9, 9, 8))
    sizes = tuple(draw(st.lists(st.integers(1, 16), min_size=4, max_size=4)))
    tokens: list[tuple[bool, int, list[int]]] = []
    left = 4 * height * width
    while left > 0:
        repeat = draw(st.booleans())
        run = draw(st.integers(1, min(1 << max(sizes), left + (5 if repeat else 0))))
        words = st.lists(
            st.integers(0, (1 << word_bits) - 1),
            min_size=1 if repeat else run,
            max_size=1 if repeat else run,
        )
        tokens.append((repeat, run, draw(words)))
        left -= run
    return stream(4 * height * width, tokens, sizes, word_bits), height, width


def stream(
    count: int,
    tokens: list[tuple[bool, int, list[int]]],
    sizes: tuple[int, ...] = (3, 4, 8, 16),
    word_bits: int = 8,
) -> list[int]:
    """Write tokens (repeat?, run, words) bit by bit, as the format says."""
    bits = f"{count:032b}{word_bits - 1:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
    for repeat, run, words in tokens:
        index = next(i for i, size in enumerate(sizes) if run <= 1 << size)
        bits += f"{int(repeat)}{index:02b}{run - 1:0{sizes[index]}b}"
        bits += "".join(f"{word:0{word_bits}b}" for word in words)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def browser_tokens(
    values: list[int], draw_literal: list[bool]
) -> list[tuple[bool, int, list[int]]]:
    """Cut values into repeats and, where told so, literals of several runs."""
    tokens: list[tuple[bool, int, list[int]]] = []
    for number, (value, run) in enumerate((v, len(list(g))) for v, g in groupby(values)):
        literal = draw_literal[number % len(draw_literal)]
        if literal and tokens and not tokens[-1][0] and tokens[-1][1] + run <= 8:
            last = tokens.pop()
            tokens.append((False, last[1] + run, last[2] + [value] * run))
        else:
            tokens.append((not literal, run, [value] * (run if literal else 1)))
    return tokens


@given(masks)
def test_encode_is_byte_identical_to_the_sdk(mask: Mask) -> None:
    assert encode(mask) == mask2rle(mask.astype(np.uint8) * 255)


@given(soft_masks)
def test_soft_masks_encode_like_the_sdk_and_come_back(mask: Mask) -> None:
    rle = encode(mask)
    assert rle == mask2rle(mask)
    assert (decode(rle, *mask.shape) == mask).all()


@settings(max_examples=25)
@given(ragged_masks())
def test_ragged_masks_of_many_sizes(mask: Mask) -> None:
    pixels = mask.astype(np.uint8) * 255
    rle = encode(mask)
    assert rle == mask2rle(pixels)
    assert (decode(rle, *mask.shape) == pixels).all()


def test_a_stream_of_several_chunks_comes_back() -> None:
    mask = np.random.default_rng(0).integers(0, 256, (500, 500), np.uint8)
    rle = encode(mask)
    assert len(rle) > 5 * 65536
    assert rle == mask2rle(mask)
    assert (decode(rle, 500, 500) == mask).all()


@given(any_streams())
def test_decode_equals_the_sdk_on_any_stream(made: tuple[list[int], int, int]) -> None:
    rle, height, width = made
    assert (decode(rle, height, width).ravel() == decode_rle(rle)[3::4]).all()


@pytest.mark.parametrize("pixels", [2, 4, 64, 65, 16384, 16385, 40000])
def test_runs_at_every_size_boundary(pixels: int) -> None:
    mask = np.zeros((1, pixels + 3), np.uint8)
    mask[0, 1 : pixels + 1] = 255
    assert encode(mask) == mask2rle(mask)
    assert (decode(encode(mask), *mask.shape) == mask).all()


@given(images, st.lists(st.booleans(), min_size=1, max_size=5))
def test_decode_equals_the_sdk_on_browser_streams(image: Mask, draw_literal: list[bool]) -> None:
    height, width, _ = image.shape
    rle = stream(image.size, browser_tokens(image.ravel().tolist(), draw_literal))
    expected = decode_rle(rle).reshape(height, width, 4)[..., 3]
    assert (decode(rle, height, width) == expected).all()
    assert (expected == image[..., 3]).all()


def test_decode_reads_other_run_sizes() -> None:
    rle = stream(8, [(True, 5, [9]), (False, 3, [1, 2, 200])], sizes=(2, 3, 5, 16))
    assert decode(rle, 1, 2).tolist() == [[9, 200]]


def test_real_browser_result_decodes_as_the_sdk_says(samples: Samples) -> None:
    for region in samples("task_after_ui_submit.json"):
        height, width = region["original_height"], region["original_width"]
        rle = region["value"]["rle"]
        assert (decode(rle, height, width).ravel() == decode_rle(rle)[3::4]).all()


@pytest.mark.parametrize(
    ("rle", "reason"),
    [
        ([], "no complete header"),
        ("abc", "list of bytes"),
        (5, "list of bytes"),
        ([256] * 20, "integers 0 to 255"),
        ([1.5] * 20, "integers 0 to 255"),
        (stream(16, [(True, 16, [1])]), "not an RGBA image of 3 x 3"),
        (stream(2**32 - 4, []), "not an RGBA image"),
        (stream(36, [(True, 8, [1])]), "ends after"),
        (stream(36, [(False, 36, [1] * 7)]), "ends after"),
        (stream(36, [])[:7] + [0] * 40, "ends after"),
        (stream(36, [(False, 40, [1] * 40)]), "holds 40 values instead of 36"),
        (stream(36, [(True, 36, [1])], word_bits=9), "words of up to 8 bits"),
    ],
)
def test_hostile_streams_are_refused(rle: list[int], reason: str) -> None:
    with pytest.raises(BrushError, match=reason):
        decode(rle, 3, 3)


@pytest.mark.parametrize(("height", "width"), [(0, 9), (9, 0), (-3, -3)])
def test_a_size_that_is_none_is_refused(height: int, width: int) -> None:
    with pytest.raises(BrushError, match="not an RGBA image"):
        decode(stream(36, [(True, 36, [1])]), height, width)


@pytest.mark.parametrize(
    ("bits", "rest", "side"),
    [
        ("100" + "000" + "00000001", "", 500),  # as many tokens as go into the stream
        ("000" + "111" + "00000001" * 8, "", 700),  # literals only
        ("111" + "1" * 16 + "00000001", "1" * 8_000_000, 500),  # far more than is needed
    ],
)
def test_work_on_hostile_streams_is_bounded_by_their_size(bits: str, rest: str, side: int) -> None:
    head = "".join(f"{byte:08b}" for byte in stream(4 * side * side, []))[:53]
    text = head + bits * (4 * side * side // (8 if bits[:6] == "000111" else 1)) + rest
    data = int(text[: len(text) // 8 * 8], 2).to_bytes(len(text) // 8, "big")
    tracemalloc.start()
    with contextlib.suppress(BrushError):
        decode(data, side, side)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 * (len(data) + side * side) + 20_000_000


@given(st.binary(max_size=200))
def test_noise_is_an_image_or_an_error(noise: bytes) -> None:
    rle = stream(400, [])[:6] + list(noise)
    with contextlib.suppress(BrushError):
        assert decode(rle, 10, 10).shape == (10, 10)


@pytest.mark.parametrize(
    "mask", [np.zeros((0, 3), bool), np.zeros(4, bool), np.zeros((2, 2), float)]
)
def test_what_is_no_mask_is_refused(mask: Mask) -> None:
    with pytest.raises(BrushError, match="mask"):
        encode(mask)
