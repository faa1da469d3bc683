"""Cases of kind ``sasp``: similarity maps alone, to points and back to gradients."""

from collections.abc import Iterator

import torch
from torch import Tensor

from workers.read.config import SasPSettings
from workers.read.conformance.cases import (
    POINT_PIXELS,
    CaseResult,
    Computed,
    Tolerance,
    Values,
    compare,
    count,
)
from workers.read.conformance.entries import compare_entry
from workers.read.conformance.subject import Subject
from workers.read.sasp import SasPPoints, ordered_cells, sasp_grid, sasp_points

INPUT = "sm"
GRADIENT = "grad_sm"
GRADIENT_TOLERANCE = Tolerance(1e-4, of_largest=1e-2)
"""The recorded gradients are themselves up to 0.8 % of their largest value from exact ones."""


def names(subject: Subject, kind: str) -> list[str]:
    """The keys of the manifest's list, and what is recorded without being listed there."""
    keys = [entry["key"] for entry in subject.manifest.get(kind, [])]
    recorded = [
        name.split("/")[0] for file in subject.files(kind) for name in subject.recorded(file)
    ]
    return [*keys, *(key for key in dict.fromkeys(recorded) if key not in keys)]


def run(subject: Subject, kind: str, name: str) -> Iterator[CaseResult]:
    """Compare points, labels and grid; where the original fails, there have to be no points."""
    entry = subject.entry(kind, "key", name)
    arrays = {}
    for file in subject.files(kind):
        arrays.update(subject.recorded(file))
    prefix = f"{name}/"
    recorded = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    similarity = torch.from_numpy(recorded[INPUT]).requires_grad_()
    image_hw, settings = tuple(entry["shape"]), SasPSettings(**entry["params"])
    points = sasp_points(similarity, image_hw, settings)
    yield from compare_entry(name, kind, entry, _entry(points, similarity, image_hw, settings))
    if "raises" in entry:
        yield count(name, kind, "points", len(points.xy))
        return
    computed = sasp_arrays(points, similarity, image_hw, settings)
    if GRADIENT in recorded:
        gradient = _gradient(points.xy, similarity)
        computed[GRADIENT] = Values(gradient, tolerance=GRADIENT_TOLERANCE)
    yield from compare(name, kind, recorded, computed, left_out=[INPUT])


def _entry(
    points: SasPPoints, similarity: Tensor, image_hw: tuple[int, int], settings: SasPSettings
) -> dict[str, Computed]:
    """What the manifest tells of a map and its points."""
    grid = sasp_grid(similarity.detach(), image_hw, settings)
    return {
        "side": Values(similarity.numel() ** 0.5),
        "n": Values(len(points.xy)),
        "negative_pad": Values(min(grid.pad_rows, grid.pad_columns) < 0),
    }


def sasp_arrays(
    points: SasPPoints, similarity: Tensor, image_hw: tuple[int, int], settings: SasPSettings
) -> dict[str, Computed]:
    """Points and what they were chosen from, by their recorded names."""
    grid = sasp_grid(similarity.detach(), image_hw, settings)
    sizes = ordered_cells(grid.values, settings).class_sizes
    return {
        "points": Values(points.xy, tolerance=POINT_PIXELS),
        "points_int": Values(points.integer),
        "labels": Values(points.labels),
        "counts_pos_neg_neutral": Values(list(sizes)),
        "grid_h_w_padh_padw": Values([*grid.values.shape, grid.pad_rows, grid.pad_columns]),
    }


def _gradient(xy: Tensor, similarity: Tensor) -> Tensor:
    """Gradient of the sum of all coordinates, weighted from -1 to 1."""
    weights = torch.linspace(-1, 1, xy.numel()).reshape(xy.shape)
    return torch.autograd.grad((xy * weights).sum(), similarity)[0]
