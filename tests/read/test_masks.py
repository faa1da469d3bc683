"""The one mask path: images side by side, float32 points, none from maps that say nothing."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from workers.read.config import ReadConfig
from workers.read.masks import SegMask, SegToken
from workers.read.model import ReadModel

Maker = Callable[..., SegToken]


@pytest.fixture
def token(sizes: ReadConfig) -> Maker:
    """Make a random ``[SEG]`` of an image of the given size."""

    def make(seed: int, image_hw: tuple[int, int], resized_hw: tuple[int, int]) -> SegToken:
        random = torch.Generator().manual_seed(seed)
        return SegToken(
            state=torch.randn(sizes.llama.hidden, generator=random),
            image_states=torch.randn(sizes.clip.side**2, sizes.llama.hidden, generator=random),
            embedding=torch.randn(64, 6, 6, generator=random),
            image_hw=image_hw,
            resized_hw=resized_hw,
        )

    return make


def assert_close(one: SegMask, other: SegMask) -> None:
    for name in ("query", "similarity", "view_points", "sparse", "low_res", "logits", "iou"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=1e-4, atol=1e-5)


def test_tokens_of_many_images_give_what_each_gives_alone(model: ReadModel, token: Maker) -> None:
    tokens = [
        token(1, (60, 90), (64, 96)),
        token(2, (96, 96), (96, 96)),
        token(3, (60, 90), (64, 96)),
    ]
    with torch.no_grad():
        together = model.masks(tokens)
        for seg, mask in zip(tokens, together, strict=True):
            assert mask.logits.shape == seg.image_hw
            assert_close(mask, model.masks([seg])[0])


def test_points_are_scaled_to_the_sam_view(model: ReadModel, token: Maker) -> None:
    mask = model.masks([token(1, (30, 90), (32, 96))])[0]
    assert mask.points is not None
    expected = mask.points.xy * torch.tensor([96 / 90, 32 / 30])
    torch.testing.assert_close(mask.view_points, expected)


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_map_that_says_nothing_leaves_the_query_alone(
    model: ReadModel, token: Maker, value: float
) -> None:
    seg = token(1, (60, 90), (64, 96))
    mask = model.masks([replace(seg, image_states=torch.full((64, 64), value))])[0]
    assert mask.points is not None
    assert len(mask.points.xy) == 0
    torch.testing.assert_close(mask.sparse, mask.query[None])
    assert torch.isfinite(mask.logits).all()


def test_without_sasp_the_query_stands_alone(model: ReadModel, token: Maker) -> None:
    seg = token(1, (60, 90), (64, 96))
    model.settings = replace(model.settings, sasp=None)
    mask = model.masks([seg])[0]
    assert mask.points is None
    torch.testing.assert_close(mask.sparse, mask.query[None])


def test_prompts_stand_as_points_padding_query(model: ReadModel, token: Maker) -> None:
    mask = model.masks([token(1, (60, 90), (64, 96))])[0]
    padding = model.sam.prompt_encoder.not_a_point_embed.weight[0]
    torch.testing.assert_close(mask.sparse[-2:], torch.stack([padding, mask.query]))
    assert len(mask.sparse) == len(mask.view_points) + 2


def test_bfloat16_states_still_give_float32_points_and_masks(
    model: ReadModel, token: Maker
) -> None:
    exact = token(1, (60, 90), (64, 96))
    rounded = replace(
        exact, state=exact.state.bfloat16(), image_states=exact.image_states.bfloat16()
    )
    model.query_head.bfloat16()
    mask = model.masks([rounded])[0]
    assert mask.points is not None
    assert mask.view_points.dtype == mask.logits.dtype == mask.sparse.dtype == torch.float32
    assert (mask.view_points != mask.view_points.bfloat16()).any()


def test_the_mask_pulls_on_the_map_through_its_points(model: ReadModel, token: Maker) -> None:
    states = token(1, (60, 90), (64, 96)).image_states.requires_grad_()
    seg = replace(token(1, (60, 90), (64, 96)), image_states=states)
    model.masks([seg])[0].logits.sum().backward()
    assert states.grad is not None
    assert states.grad.abs().sum() > 0
