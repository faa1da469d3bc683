"""The hash of pictures, and clusters of hashes."""

import cv2
import numpy as np

from pipeline.learning.likeness import Clusters, difference_hash, near_pairs
from tests.pipeline.learning.conftest import People


def bits(one: int, other: int) -> int:
    return (one ^ other).bit_count()


def test_the_next_frame_is_near_and_another_picture_is_far(people: People) -> None:
    first, second, other = (
        difference_hash(people.picture(name, seed, shift=shift).read_bytes())
        for name, seed, shift in (("a.png", 1, 0), ("b.png", 1, 1), ("c.png", 2, 0))
    )
    assert bits(first, second) <= 10
    assert bits(first, other) >= 20


def test_a_smaller_copy_in_another_format_is_near(people: People) -> None:
    path = people.picture("a.png", 3)
    small = cv2.resize(cv2.imread(str(path)), (48, 36), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])
    assert bits(difference_hash(path.read_bytes()), difference_hash(data.tobytes())) <= 10


def test_what_is_no_picture_has_no_hash_and_is_near_to_nothing() -> None:
    assert difference_hash(b"") == difference_hash(b"no picture") == 0
    assert list(near_pairs(np.zeros(3, np.uint64), 64)) == []


def test_pairs_are_those_of_a_plain_double_loop() -> None:
    random = np.random.default_rng(0)
    base = random.integers(1, 2**63, 40, np.uint64)
    flips = (np.uint64(1) << random.integers(0, 63, (40, 20), np.uint64)).astype(np.uint64)
    hashes = (
        np.bitwise_xor.reduce(
            np.where(random.random((1200, 20)) < 0.4, flips[np.arange(1200) % 40], np.uint64(0)),
            axis=1,
        )
        ^ base[np.arange(1200) % 40]
    )
    expected = {
        (one, other)
        for one in range(1200)
        for other in range(one + 1, 1200)
        if bits(int(hashes[one]), int(hashes[other])) <= 8
    }
    assert len(expected) > 1000
    assert set(near_pairs(hashes, 8)) == expected


def test_clusters_grow_together() -> None:
    clusters = Clusters(6)
    for pair in ((4, 5), (1, 2), (2, 4)):
        clusters.join(*pair)
    assert [clusters.find(number) for number in range(6)] == [0, 1, 1, 3, 1, 1]
