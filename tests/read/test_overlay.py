"""The picture of an answer shows mask, points and similarity where they are."""

import io

import numpy as np
import pytest
from PIL import Image

from workers.read.engine import Answer, EngineSeconds, Segment
from workers.read.overlay import overlay


def segment(height: int, width: int, similarity: np.ndarray | None = None) -> Segment:
    """A mask on the left half, one positive point in it and one negative outside."""
    mask = np.zeros((height, width), dtype=bool)
    mask[:, : width // 2] = True
    return Segment(
        probability=0.9,
        query_vector=np.zeros(4, dtype=np.float32),
        similarity=np.eye(8, dtype=np.float32) if similarity is None else similarity,
        points_xy=np.float32([[0.25 * width, 0.5 * height], [0.75 * width, 0.5 * height]]),
        point_labels=np.int8([1, 0]),
        point_similarity=np.float32([1, 0]),
        mask=mask,
        predicted_iou=0.8,
        stability=0.9,
    )


def drawn(height: int, width: int, *segments: Segment) -> np.ndarray:
    """The overlay of a gray image."""
    answer = Answer("It is [SEG].", bool(segments), 0.9, segments, EngineSeconds(0, 0, 0))
    image = np.full((height, width, 3), 100, dtype=np.uint8)
    return np.asarray(Image.open(io.BytesIO(overlay(image, "the road", answer))))


def test_mask_and_points_are_where_the_answer_says() -> None:
    picture = drawn(320, 640, segment(320, 640)).astype(int)
    inside, outside = picture[40, 100], picture[40, 500]
    assert inside[2] > 150
    assert (outside == 100).all()
    positive, negative = picture[160 + 5, 160 + 4], picture[160 + 5, 480 + 4]
    assert positive[1] > max(positive[0], positive[2])
    assert negative[0] > max(negative[1], negative[2])


def test_the_similarity_covers_the_central_square_of_its_own_panel() -> None:
    similarity = np.zeros((4, 4), dtype=np.float32)
    similarity[0, 3] = 1
    panel = drawn(320, 640, segment(320, 640, similarity))[328:648, :640].astype(int)
    assert np.ptp(panel[20, 40]) == 0  # gray beside the square
    assert panel[20, 465].sum() > panel[20, 180].sum() + 200


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (5, 3000), (3000, 5), (60, 40), (2000, 3000)]
)
def test_every_size_becomes_a_picture_of_readable_size(height: int, width: int) -> None:
    picture = drawn(height, width, segment(height, width), segment(height, width))
    assert 640 <= picture.shape[1] <= 3 * 1280 + 16
    assert picture.shape[0] <= 4 * 1280


def test_an_absent_object_and_a_map_of_nan_are_drawn_too() -> None:
    assert drawn(90, 120).shape[1] == 640
    nan = np.full((4, 4), np.nan, dtype=np.float32)
    assert drawn(90, 120, segment(90, 120, nan)).shape[1] == 640
