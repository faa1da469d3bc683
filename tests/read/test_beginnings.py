"""What rows about one picture begin with in common."""

import torch

from workers.read.beginnings import common_beginning, shared_hidden
from workers.read.model import ReadModel


def test_rows_of_one_picture_need_not_lie_together(model: ReadModel) -> None:
    embeddings = torch.randn(5, 30, model.config.llama.hidden)
    for row, other in ((2, 0), (4, 0), (3, 1)):
        embeddings[row, :20] = embeddings[other, :20]
    with torch.no_grad():
        alone = model.hidden(embeddings)
        together = shared_hidden(model, embeddings, [0, 1, 0, 1, 0], 20)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_what_is_common_ends_before_the_first_difference() -> None:
    same = [1, 7, -200, 5]
    ids = torch.tensor([[*same, 3, 4], [*same, 3, 9], [*same, 8, 4]])
    assert common_beginning(ids, 10) == 13  # 1, 7, ten of the picture, 5
    assert common_beginning(ids[:2], 10) == 14
    assert common_beginning(ids[:1], 10) == 14  # one position is left to each
    ids[0, 1] = 6
    assert common_beginning(ids, 10) == 0
