"""Label Studio's brush format: run-length packed RGBA bytes (thi.ng's rle-pack).

A stream is a row of bits, most significant first::

    32 bits count (4 * height * width) | 5 bits word size - 1 | 4 x 4 bits run size - 1 | tokens

    token: 1 bit "repeat" | 2 bits which run size | run - 1 in that many bits | words of 8 bits

A repeating token has one word, the others have ``run`` words. The four channels of a pixel hold
the same value when we encode; a browser writes colours, and the mask into the fourth, with soft
edges. :data:`PAINTED_ABOVE` says which alpha values count as painted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PAINTED_ABOVE = 127

_CHANNELS = 4
_WORD_BITS = 8
_RUN_BITS = (3, 4, 8, 16)
_HEADER_BITS = 32 + 5 + 4 * 4
_LONGEST_RUN = 1 << 16
_MOST_PIXELS = (1 << 32) // _CHANNELS - 1
_WINDOW_BYTES = 5
_CHUNK_BYTES = 1 << 16
_LONG_RUN = 200


class BrushError(ValueError):
    """A mask that cannot be encoded, or a stream that is not a mask of the expected size."""


def encode(mask: NDArray[np.uint8] | NDArray[np.bool_]) -> list[int]:
    """Return the brush stream of ``mask`` (H, W), byte for byte what the SDK's encoder makes.

    A boolean mask is written as 0 and 255, an 8-bit one with its own values.

    Raises:
        BrushError: the mask is empty, not two-dimensional, of another type or over 2^30 pixels.
    """
    flat = _checked(mask).ravel()
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    runs = _CHANNELS * np.diff(starts, append=flat.size)
    return _pack(_CHANNELS * flat.size, runs, flat[starts].astype(np.int64))


def decode(rle: Sequence[int] | bytes, height: int, width: int) -> NDArray[np.uint8]:
    """Return the alpha channel (H, W) of a brush stream.

    Raises:
        BrushError: the stream has another size, is cut short, or holds something else than bytes.
            Work and memory are bounded by ``len(rle)`` and ``height * width``; the size must
            therefore come from somebody who knows the image, not from the sender of the stream.
    """
    data = _as_bytes(rle)
    header = _read_header(data, height, width)
    tokens = _walk(data, header, _CHANNELS * height * width)
    return _alpha(data, tokens, header.word_bits).reshape(height, width)


def _checked(mask: NDArray[np.uint8] | NDArray[np.bool_]) -> NDArray[np.uint8]:
    if mask.ndim != 2:  # noqa: PLR2004
        raise BrushError(f"a mask has two dimensions, this one has the shape {mask.shape}")
    if not 0 < mask.size <= _MOST_PIXELS:
        raise BrushError(f"a mask has 1 to {_MOST_PIXELS} pixels, this one has {mask.size}")
    if mask.dtype == np.bool_:
        return mask.astype(np.uint8) * np.uint8(255)
    if mask.dtype != np.uint8:
        raise BrushError(f"a mask is of type bool or uint8, this one is {mask.dtype}")
    return mask.astype(np.uint8, copy=False)


def _split_long(runs: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split runs over 65536 into full ones and a rest; also return each run's number of pieces."""
    pieces = (runs - 1) // _LONGEST_RUN + 1
    last = np.cumsum(pieces) - 1
    split = np.full(int(pieces.sum()), _LONGEST_RUN, dtype=np.int64)
    split[last] = runs - (pieces - 1) * _LONGEST_RUN
    return split, pieces


def _pack(count: int, runs: NDArray[np.int64], words: NDArray[np.int64]) -> list[int]:
    """Lay the header and the tokens of repeated words out as bits, padded with 1 to 8 zeros."""
    split, pieces = _split_long(runs)
    # The rest of a run over 65536 keeps the largest size, as the SDK writes it.
    size = np.repeat(np.searchsorted([8, 16, 256], runs), pieces)
    bits = np.asarray(_RUN_BITS)[size]
    lengths = 3 + bits + _WORD_BITS
    tokens = (((4 + size) << bits) | (split - 1)) << _WORD_BITS | np.repeat(words, pieces)
    ends = _HEADER_BITS + np.cumsum(lengths)
    first = (ends - lengths) >> 3
    # A token is longer than a byte, so no two of them start in the same one.
    shifted = tokens << (_WINDOW_BYTES * 8 - (ends - lengths - first * 8) - lengths)
    packed = np.zeros(int(ends[-1]) // 8 + _WINDOW_BYTES, dtype=np.uint8)
    packed[: _HEADER_BITS // 8 + 1] = np.frombuffer(_header(count), dtype=np.uint8)
    for place in range(_WINDOW_BYTES):
        shift = 8 * (_WINDOW_BYTES - 1 - place)
        packed[first + place] |= (shifted >> shift & 0xFF).astype(np.uint8)
    stream: list[int] = packed[: int(ends[-1]) // 8 + 1].tolist()
    return stream


def _header(count: int) -> bytes:
    bits = count << 5 | (_WORD_BITS - 1)
    for size in _RUN_BITS:
        bits = bits << 4 | (size - 1)
    used = _HEADER_BITS // 8 + 1
    return (bits << (used * 8 - _HEADER_BITS)).to_bytes(used, "big")


def _as_bytes(rle: Sequence[int] | bytes) -> bytes:
    if not isinstance(rle, list | tuple | bytes):
        raise BrushError(f"a brush stream is a list of bytes, not {type(rle).__name__}")
    try:
        return bytes(rle)
    except (TypeError, ValueError) as error:
        raise BrushError("a brush stream holds something else than integers 0 to 255") from error


@dataclass(frozen=True, slots=True)
class _Header:
    """How many bits a word has, and the four sizes that a run may have in bits."""

    word_bits: int
    run_bits: tuple[int, ...]


def _read_header(data: bytes, height: int, width: int) -> _Header:
    """Return the sizes of words and runs, after checking them and the size of the image."""
    used = _HEADER_BITS // 8 + 1
    if len(data) < used:
        raise BrushError(f"a brush stream of {len(data)} bytes has no complete header")
    bits = int.from_bytes(data[:used], "big") >> (used * 8 - _HEADER_BITS)
    run_bits = tuple((bits >> shift & 15) + 1 for shift in (12, 8, 4, 0))
    word, count = (bits >> 16 & 31) + 1, bits >> 21
    if word > _WORD_BITS:
        raise BrushError(f"a brush stream has words of up to 8 bits, this one of {word}")
    if count != _CHANNELS * height * width or min(height, width) < 1:
        raise BrushError(
            f"a brush stream of {count} values is not an RGBA image of {width} x {height} pixels"
        )
    return _Header(word, run_bits)


@dataclass(frozen=True, slots=True)
class _Tokens:
    """Where each token's output ends (in channels), and what it writes there.

    ``words`` is the repeated word, or minus the bit position of the first of its literal words.
    """

    ends: NDArray[np.int64]
    words: NDArray[np.int64]


def _walk(data: bytes, header: _Header, count: int) -> _Tokens:
    """Find the tokens: each one's place depends on the one before, so this part is a loop.

    It goes in chunks, whose tokens are packed at once, because Python's numbers take much memory.
    """
    chunks: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    position, written, available = _HEADER_BITS, 0, len(data) * 8
    while written < count and position < available:
        ends, words, position = _walk_chunk(data, header, position, written, count)
        written = ends[-1]
        chunks.append((np.array(ends), np.array(words)))
    if position > available or written < count:
        raise BrushError(f"a brush stream ends after {written} of {count} values")
    if words[-1] < 0 and written > count:
        raise BrushError(f"a brush stream holds {written} values instead of {count}")
    all_ends, all_words = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
    return _Tokens(np.minimum(all_ends, count), all_words)


def _walk_chunk(
    data: bytes, header: _Header, position: int, written: int, count: int
) -> tuple[list[int], list[int], int]:
    """Return the ends and words of the tokens that begin in one chunk, and where the next begins.

    There is at least one, because ``position`` (in bits) lies in the chunk.
    """
    first = position >> 3
    windows = _windows(data, first)
    # Three bits say what a token is; the window has 40, of which up to 7 lie before the token.
    kinds = [
        (bits, 30 - bits, (1 << bits) - 1, 30 - bits - header.word_bits) for bits in header.run_bits
    ]
    word_bits, ones = header.word_bits, (1 << header.word_bits) - 1
    base, limit = first * 8, len(windows) * 8
    place = position - base
    ends: list[int] = []
    words: list[int] = []
    while written < count and place < limit:
        token = windows[place >> 3] >> (7 - (place & 7))
        bits, shift, run_ones, word_shift = kinds[token >> 30 & 3]
        run = (token >> shift & run_ones) + 1
        place += 3 + bits
        if token >> 32 & 1:
            words.append(token >> word_shift & ones)
            place += word_bits
        else:
            words.append(-place - base)
            place += word_bits * run
        written += run
        ends.append(written)
    return ends, words, base + place


def _windows(data: bytes, first: int) -> list[int]:
    """Return, for each byte of a chunk, the 40 bits that begin with it (zeros after the end)."""
    chunk = data[first : first + _CHUNK_BYTES + _WINDOW_BYTES]
    size = min(len(data) - first, _CHUNK_BYTES)
    padded = np.zeros(size + _WINDOW_BYTES, dtype=np.int64)
    padded[: len(chunk)] = np.frombuffer(chunk, dtype=np.uint8)
    total = np.zeros(size, dtype=np.int64)
    for place in range(_WINDOW_BYTES):
        total <<= 8
        total |= padded[place : place + size]
    windows: list[int] = total.tolist()
    return windows


def _alpha(data: bytes, tokens: _Tokens, word_bits: int) -> NDArray[np.uint8]:
    """Write every fourth value only: a token that ends at ``e`` has written ``e // 4`` alphas."""
    ends = tokens.ends // _CHANNELS
    counts = np.diff(ends, prepend=0)
    out = _repeats(np.maximum(tokens.words, 0).astype(np.uint8), ends, counts)
    literal = np.flatnonzero((tokens.words < 0) & (counts > 0))
    if literal.size:
        many = counts[literal]
        place = np.repeat(ends[literal] - np.cumsum(many), many) + np.arange(int(many.sum()))
        begins = np.concatenate(([0], tokens.ends[:-1]))[literal]
        ahead = place * _CHANNELS + (_CHANNELS - 1) - np.repeat(begins, many)
        position = np.repeat(-tokens.words[literal], many) + word_bits * ahead
        out[place] = _words_at(data, position, word_bits)
    return out


def _repeats(
    words: NDArray[np.uint8], ends: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Return each word as often as counted; long runs are painted on what is zero already."""
    if len(words) * _LONG_RUN > ends[-1]:
        repeated: NDArray[np.uint8] = np.repeat(words, counts)
        return repeated
    out = np.zeros(int(ends[-1]), dtype=np.uint8)
    painted = np.flatnonzero(words)
    begins = ends[painted] - counts[painted]
    for word, begin, end in zip(
        words[painted].tolist(), begins.tolist(), ends[painted].tolist(), strict=True
    ):
        out[begin:end] = word
    return out


def _words_at(data: bytes, position: NDArray[np.int64], word_bits: int) -> NDArray[np.uint8]:
    """Return the words that begin at each bit position."""
    padded = np.frombuffer(data + b"\0", dtype=np.uint8).astype(np.int64)
    pair = padded[position >> 3] << 8 | padded[(position >> 3) + 1]
    ones = (1 << word_bits) - 1
    words: NDArray[np.uint8] = (pair >> (16 - word_bits - (position & 7)) & ones).astype(np.uint8)
    return words
