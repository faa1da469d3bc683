"""Near duplicates: pictures by a hash of their gradients, and clusters of hashes that are close.

The difference hash (N. Krawetz, "Kind of Like That", 2013): gray, 9 by 8 pixels, one bit for each
pair of neighbors, whether the right one is brighter. Frames of a video that follow at once differ
in a few of the 64 bits, pictures of different things in about half.
"""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

_SIDE = 8
_AT_ONCE = 512


def difference_hash(data: bytes) -> int:
    """Return the hash of an encoded picture, in [1, 2**64); 0 for one that cannot be decoded."""
    if not data:
        return 0
    try:
        gray = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_4)
    except cv2.error:
        return 0
    if gray is None:
        return 0
    small = cv2.resize(gray, (_SIDE + 1, _SIDE), interpolation=cv2.INTER_AREA).astype(np.int16)
    bits = np.packbits((small[:, 1:] > small[:, :-1]).ravel())
    return int.from_bytes(bits.tobytes(), "big") or 1


def near_pairs(hashes: NDArray[np.uint64], most_bits: int) -> Iterator[tuple[int, int]]:
    """Yield the pairs (earlier, later) of places whose hashes differ in at most so many bits.

    A hash of 0 is near to nothing. All pairs are compared, 512 rows at a time.
    """
    for start in range(0, len(hashes), _AT_ONCE):
        rows = hashes[start : start + _AT_ONCE]
        near = np.bitwise_count(rows[:, None] ^ hashes[None, :]) <= most_bits
        near &= (rows != 0)[:, None] & (hashes != 0)[None, :]
        for row, column in zip(*np.nonzero(near), strict=True):
            if column > row + start:
                yield int(row + start), int(column)


class Clusters:
    """Sets of numbers that grow together (union-find, by the smallest member)."""

    def __init__(self, count: int) -> None:
        self._parents = list(range(count))

    def join(self, one: int, other: int) -> None:
        """Make two numbers, and all that are with them, one set."""
        first, second = sorted((self.find(one), self.find(other)))
        self._parents[second] = first

    def find(self, number: int) -> int:
        """Return the smallest number of the set that holds ``number``."""
        while self._parents[number] != number:
            self._parents[number] = self._parents[self._parents[number]]
            number = self._parents[number]
        return number
