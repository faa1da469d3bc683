"""SasP, windowed against whole-map: seconds and memory kept for backward, in one process.

The whole-map form weighs every pixel of the image for every point, in a loop, as the method is
written down; on large images it is measured on a few points and scaled to all of them. Run
``python benchmarks/sasp.py [--json]`` from the repository; it uses one core.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional

from workers.read import SasPSettings, center_crop_padding, sasp_points

SIZES = ((480, 640), (1100, 1500), (3000, 4000))
POINTS, SIDE, FINE_SIDE = 30, 24, 336
REPEATS = 15
WHOLE_MAP_PIXELS = 50_000_000
"""Pixels that the loop may weigh in all: larger images get fewer points, and are scaled."""

SETTINGS = SasPSettings(num_points=POINTS)


@dataclass(frozen=True)
class Row:
    """One image size: median CPU milliseconds of a mask's points, megabytes kept for its backward.

    ``loop_points`` of ``points`` were measured in the loop; its figures are scaled to all.
    ``worst_px`` is the largest difference between both forms on those points.
    """

    width: int
    height: int
    points: int
    windowed_ms: float
    windowed_backward_mb: float
    loop_points: int
    loop_ms: float
    loop_backward_mb: float
    worst_px: float


def whole_map(similarity: Tensor, integer: Tensor, image_hw: tuple[int, int]) -> Tensor:
    """Refine points (N, 2) by a mean over all pixels, point by point: the definition."""
    side = round(similarity.numel() ** 0.5)
    span = similarity.max() - similarity.min()
    square = ((similarity - similarity.min()) / span).reshape(1, 1, side, side)
    square = _resize(square, (FINE_SIDE, FINE_SIDE))
    rows, columns = center_crop_padding(image_hw, FINE_SIDE)
    fine = _resize(functional.pad(square, (columns, columns, rows, rows)), image_hw)
    probability = fine.flatten().softmax(dim=0)
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in image_hw), indexing="ij")
    probability = probability.reshape(image_hw)
    refined = []
    for point_x, point_y in integer.tolist():
        weights = torch.exp(-((x - point_x).square() + (y - point_y).square())) * probability
        refined.append(torch.stack([(weights * x).sum(), (weights * y).sum()]) / weights.sum())
    return torch.stack(refined)


def measure(image_hw: tuple[int, int]) -> Row:
    """Measure both forms on one random map."""
    generator = torch.Generator().manual_seed(7)
    similarity = torch.randn(SIDE * SIDE, generator=generator).requires_grad_()
    points = sasp_points(similarity, image_hw, SETTINGS)
    count = max(1, min(POINTS, WHOLE_MAP_PIXELS // (image_hw[0] * image_hw[1])))
    chosen = points.integer[:count]
    windowed = _milliseconds(lambda: sasp_points(similarity, image_hw, SETTINGS), REPEATS)
    loop = _milliseconds(lambda: whole_map(similarity, chosen, image_hw), 1)
    kept = _megabytes_kept(lambda: sasp_points(similarity, image_hw, SETTINGS).xy)
    loop_kept = _megabytes_kept(lambda: whole_map(similarity, chosen, image_hw))
    with torch.no_grad():
        worst = (whole_map(similarity, chosen, image_hw) - points.xy[:count]).abs().max()
    scale = len(points.xy) / count
    return Row(
        width=image_hw[1],
        height=image_hw[0],
        points=len(points.xy),
        windowed_ms=windowed,
        windowed_backward_mb=kept,
        loop_points=count,
        loop_ms=loop * scale,
        loop_backward_mb=loop_kept * scale,
        worst_px=float(worst),
    )


def _resize(values: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(values, size, mode="bilinear", align_corners=False)


def _milliseconds(work: Callable[[], object], repeats: int) -> float:
    """Median CPU time of a forward pass: on one thread of an idle machine, wall time."""
    seconds = []
    for _ in range(repeats):
        begun = time.process_time()
        work()
        seconds.append(time.process_time() - begun)
    return statistics.median(seconds) * 1000


def _megabytes_kept(work: Callable[[], Tensor]) -> float:
    """Megabytes (1e6 bytes) of the different storages that autograd keeps of a forward pass."""
    storages: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        result = work()
    assert result.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in storages.values()) / 1e6


def main() -> None:
    """Print one line a size, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object and no table")
    as_json = parser.parse_args().json
    torch.set_num_threads(1)
    rows = [measure(image_hw) for image_hw in SIZES]
    if as_json:
        print(json.dumps({"threads": 1, "sizes": [asdict(row) for row in rows]}))
        return
    for row in rows:
        scaled = "" if row.loop_points == row.points else f" (scaled from {row.loop_points})"
        print(
            f"{row.width}x{row.height}, {row.points} points: windowed {row.windowed_ms:.1f} ms, "
            f"{row.windowed_backward_mb:.2f} MB for backward; whole map {row.loop_ms:.0f} ms, "
            f"{row.loop_backward_mb:.0f} MB{scaled}; at most {row.worst_px:.1e} px apart"
        )


if __name__ == "__main__":
    main()
