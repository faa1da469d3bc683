"""What rows about one picture begin with in common."""

from types import SimpleNamespace

import pytest
import torch

from workers.read.attention import attend
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


def test_half_precision_on_a_cpu_changes_no_more_than_its_rounding(model: ReadModel) -> None:
    embeddings = torch.randn(3, 30, model.config.llama.hidden)
    embeddings[1, :20] = embeddings[0, :20]
    with torch.no_grad():
        exact = model.hidden(embeddings)
        with torch.autocast("cpu", torch.bfloat16):
            alone = model.hidden(embeddings)
            together = shared_hidden(model, embeddings, [0, 0, 1], 20)
    torch.testing.assert_close(alone, exact, atol=0.1, rtol=0)
    torch.testing.assert_close(together, exact, atol=0.1, rtol=0)


@pytest.mark.parametrize("causal", [True, False])
def test_plain_products_are_the_fused_attention(causal: bool) -> None:
    module = SimpleNamespace(is_causal=causal, num_key_value_groups=2, training=False)
    query = torch.randn(2, 4, 7, 8)
    key, value = torch.randn(2, 2, 2, 7, 8)
    fused, _ = attend(module, query, key, value, None, scaling=0.3)
    with torch.autocast("cpu", torch.bfloat16):
        plain, _ = attend(module, query, key, value, None, scaling=0.3)
    assert plain.dtype == torch.bfloat16
    torch.testing.assert_close(plain.float(), fused, atol=0.03, rtol=0)


def test_what_is_common_ends_before_the_first_difference() -> None:
    same = [1, 7, -200, 5]
    ids = torch.tensor([[*same, 3, 4], [*same, 3, 9], [*same, 8, 4]])
    assert common_beginning(ids, 10) == 13  # 1, 7, ten of the picture, 5
    assert common_beginning(ids[:2], 10) == 14
    assert common_beginning(ids[:1], 10) == 14  # one position is left to each
    ids[0, 1] = 6
    assert common_beginning(ids, 10) == 0
