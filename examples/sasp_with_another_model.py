"""SasP on a model that is not READ.

The toy sees a picture as patches and has one state that stands for what was asked for, as the
``<SEG>`` token of a language model does. All that SasP needs of it is the similarity of that state
to every patch. Run it with ``python examples/sasp_with_another_model.py``.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.read import SasPSettings, sasp_points

SIDE, PATCH = 16, 8
IMAGE_HW = (128, 192)  # the toy sees its central square only, as CLIP does
RED = (0.9, 0.1, 0.1)
SETTINGS = SasPSettings(num_points=12, t_pos=0.7, down_sample=1)


class ToySegmenter(nn.Module):
    """Mean colors of patches, compared with the color that a ``<SEG>``-like state stands for."""

    def __init__(self, color: tuple[float, float, float]) -> None:
        super().__init__()
        self.seg_state = nn.Parameter(torch.tensor(color) - 0.5)

    def forward(self, picture: Tensor) -> Tensor:
        """Picture (3, H, W) in [0, 1] to similarity (S * S,), row-major."""
        left = (picture.shape[2] - picture.shape[1]) // 2
        square = picture[:, :, left : left + picture.shape[1]]
        patches = functional.avg_pool2d(square, PATCH).flatten(1).T - 0.5  # (S * S, 3)
        return patches @ self.seg_state


def scene() -> tuple[Tensor, Tensor]:
    """A noisy gray picture (3, H, W) with a red disk, and the disk as bool (H, W)."""
    height, width = IMAGE_HW
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    disk = (x - 120).square() + (y - 50).square() < 28**2
    noise = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))
    return torch.where(disk, torch.tensor(RED)[:, None, None], 0.3 + 0.2 * noise), disk


def main() -> tuple[float, Tensor]:
    """Point at the disk; returns the share of positive points on it, and a gradient (3,).

    The gradient is that of "further to the right" with respect to the state, through the points.
    """
    picture, disk = scene()
    toy = ToySegmenter(RED)
    points = sasp_points(toy(picture), IMAGE_HW, SETTINGS)
    x, y = points.integer[points.labels == 1].T
    points.xy[:, 0].sum().backward()
    assert toy.seg_state.grad is not None
    return float(disk[y, x].float().mean()), toy.seg_state.grad


if __name__ == "__main__":
    share, gradient = main()
    print(f"{share:.0%} of the positive points lie on the disk")
    print(f"gradient of the points with respect to the state: {gradient.tolist()}")
