"""How much faster than the SDK's the brush codec is, in one process.

``benchmarks/brush.py [--json]``: smooth masks (a few discs) and ragged ones (noise in blocks of
four pixels) at three sizes, the best of several rounds each, in CPU seconds: both codecs use one
thread, so a busy machine changes little. Both get the same masks and streams, and have to agree.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from label_studio_sdk.converter.brush import decode_rle, mask2rle
from numpy.typing import NDArray

from labelstudio.brush import decode, encode

SIZES = ((768, 1024), (2048, 2048), (3000, 4000))
ROUNDS = 3


def smooth(height: int, width: int) -> NDArray[np.uint8]:
    """Return five discs."""
    mask = np.zeros((height, width), np.uint8)
    for part in range(1, 6):
        center = width * part // 6, height * (1 + part % 2) // 3
        cv2.circle(mask, center, min(height, width) // 8, 255, -1)
    return mask


def ragged(height: int, width: int) -> NDArray[np.uint8]:
    """Return noise in blocks of four pixels."""
    blocks = np.random.default_rng(0).integers(0, 2, (height // 4, width // 4))
    return np.kron(blocks, np.ones((4, 4))).astype(np.uint8) * 255


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the best time of some rounds, and the result."""
    best, result = float("inf"), None
    for _ in range(ROUNDS):
        began = time.process_time()
        result = work()
        best = min(best, time.process_time() - began)
    return best, result


def measure(kind: str, mask: NDArray[np.uint8]) -> dict[str, Any]:
    """Time both codecs on one mask."""
    height, width = mask.shape
    ours, stream = seconds(lambda: encode(mask))
    theirs, expected = seconds(lambda: mask2rle(mask))
    assert stream == expected
    back, alpha = seconds(lambda: decode(stream, height, width))
    their_back, flat = seconds(lambda: decode_rle(stream))
    assert (alpha.ravel() == flat[3::4]).all()
    return {
        "mask": kind,
        "size": f"{width}x{height}",
        "stream_bytes": len(stream),
        "encode_ms": ours * 1000,
        "decode_ms": back * 1000,
        "encode_times_sdk": theirs / ours,
        "decode_times_sdk": their_back / back,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    rows = [
        measure(kind.__name__, kind(height, width))
        for height, width in SIZES
        for kind in (smooth, ragged)
    ]
    if as_json:
        print(json.dumps({"brush": rows}))
        return
    for row in rows:
        print(
            f"{row['mask']:>7} {row['size']:>9}  encode {row['encode_ms']:7.1f} ms "
            f"({row['encode_times_sdk']:.1f} x SDK)  decode {row['decode_ms']:7.1f} ms "
            f"({row['decode_times_sdk']:.1f} x SDK)"
        )


if __name__ == "__main__":
    main()
