"""Similarity as points (SasP): from the similarity map of a ``[SEG]`` token to points for SAM.

READ (Qian, Yin, Dou, CVPR 2025), method section "Similarity as Points". The coarse map chooses the
cells; every cell's center becomes an integer point; a weighted mean over the pixels around it makes
the point continuous, so that gradients of the mask reach the similarity. All of it runs in float32,
of a float64 map in float64. ``align_corners=False`` bilinear resizing without antialiasing is used
throughout.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from workers.read.sasp_settings import SasPSettings

FINE_SIDE = 336
WINDOW_RADIUS = 3
UNKNOWN = -1.0
POSITIVE, NEGATIVE, NEUTRAL = 1, 0, -1


@dataclass(frozen=True, slots=True)
class SasPGrid:
    """The coarse map laid over the whole image.

    ``values`` (h', w') float32: normalized similarity in [0, 1], 0 or -1 where the map does not
    reach. ``pad_rows`` and ``pad_columns`` cells were added at each end; negative cropped.
    """

    values: Tensor
    pad_rows: int
    pad_columns: int


@dataclass(frozen=True, slots=True)
class SasPCells:
    """Chosen cells in order: indices (N,) into the flat grid, and labels (N,) in {1, 0, -1}.

    ``class_sizes`` counts the positive, negative and neutral cells of the grid before the cut to
    ``num_points``.
    """

    indices: Tensor
    labels: Tensor
    class_sizes: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class SasPPoints:
    """Points of one ``[SEG]`` in pixels of the original image, best positive first.

    ``xy`` (N, 2) float32, differentiable with respect to the similarity; ``integer`` (N, 2) int64
    before the refinement; ``labels`` (N,) int64: 1 positive, 0 negative, -1 neutral;
    ``similarity`` (N,) float32: normalized value of the chosen cells. Of a float64 map, float64.
    """

    xy: Tensor
    integer: Tensor
    labels: Tensor
    similarity: Tensor


def sasp_points(
    similarity: Tensor,
    image_hw: tuple[int, int],
    settings: SasPSettings,
    fine_side: int = FINE_SIDE,
) -> SasPPoints:
    """Turn the similarity (T,) of T = S*S image tokens into at most ``num_points`` points.

    ``image_hw`` is the size of the original image in pixels. ``fine_side`` is the side of the
    square map that the refinement reads; the published checkpoints were trained with 336 whatever
    their vision tower. A constant map, or one that is not finite, gives no points.

    Raises:
        ValueError: T is not a square, or ``down_sample`` leaves no cell.
    """
    with torch.autocast(similarity.device.type, enabled=False):
        similarity = similarity if similarity.dtype == torch.float64 else similarity.float()
        with torch.no_grad():
            values = sasp_grid(similarity, image_hw, settings).values
            cells = ordered_cells(values, settings)
            integer = cell_pixels(cells.indices, values.shape, image_hw)
        return SasPPoints(
            xy=refine(similarity, integer, image_hw, fine_side),
            integer=integer,
            labels=cells.labels,
            similarity=values.flatten()[cells.indices],
        )


def center_crop_padding(image_hw: tuple[int, int], side: int) -> tuple[int, int]:
    """Rows and columns to add at each end of a side x side map of the image's central square.

    ``int(length * (side / shortest))`` can come out one below ``side`` by floating-point rounding
    even for the shortest length; floor division then turns the difference into -1, and one cell
    is *cropped* at both ends of the short axis. The published checkpoints were trained with it.
    A map of one or two cells, of which nothing would be left, is not cropped.
    """
    scale, least = side / min(image_hw), -((side - 1) // 2)
    rows, columns = (max((int(length * scale) - side) // 2, least) for length in image_hw)
    return rows, columns


def sasp_grid(similarity: Tensor, image_hw: tuple[int, int], settings: SasPSettings) -> SasPGrid:
    """Resize the map to ``S // down_sample``, normalize it and undo the center crop.

    Of a map that cannot be normalized every cell is unknown.
    """
    side = _side(similarity)
    coarse_side = side // settings.down_sample
    if coarse_side < 1:
        raise ValueError(
            f"SasP: down_sample {settings.down_sample} leaves no cell of a {side} x {side} map"
        )
    coarse = functional.interpolate(
        similarity.reshape(1, 1, side, side),
        size=(coarse_side, coarse_side),
        mode="bilinear",
        align_corners=False,
    )[0, 0]
    rows, columns = center_crop_padding(image_hw, coarse_side)
    scaled = _min_max(coarse) if _varies(similarity) else torch.full_like(coarse, UNKNOWN)
    padded = functional.pad(scaled, (columns, columns, rows, rows), value=UNKNOWN)
    return SasPGrid(padded, rows, columns)


def ordered_cells(values: Tensor, settings: SasPSettings) -> SasPCells:
    """Choose cells: positives from the highest, negatives from the lowest, then the others.

    The others keep row-major order. Cells that hold -1 (unknown) or NaN belong to no class. Equal
    values come in the order that torch's unstable CPU sort gives them, as in the original, so the
    choice is made on the CPU whatever the device.
    """
    flat = values.flatten().cpu()
    positive = (flat >= settings.t_pos).nonzero()[:, 0]
    negative = ((flat >= 0) & (flat <= settings.t_neg)).nonzero()[:, 0]
    neutral = ((flat > settings.t_neg) & (flat < settings.t_pos)).nonzero()[:, 0]
    positive = positive[flat[positive].argsort(descending=True)]
    negative = negative[flat[negative].argsort()]
    groups = ((positive, POSITIVE), (negative, NEGATIVE), (neutral, NEUTRAL))
    indices = torch.cat([group for group, _ in groups])
    labels = torch.cat([torch.full_like(group, label) for group, label in groups])
    return SasPCells(
        indices[: settings.num_points].to(values.device),
        labels[: settings.num_points].to(values.device),
        (len(positive), len(negative), len(neutral)),
    )


def cell_pixels(indices: Tensor, grid_hw: torch.Size, image_hw: tuple[int, int]) -> Tensor:
    """Integer (x, y) (N, 2) of the centers of grid cells, clamped to the image."""
    (grid_height, grid_width), (height, width) = grid_hw, image_hw
    if not len(indices):
        return indices.new_zeros((0, 2))
    x = (indices % grid_width + 0.5) * (width / grid_width)
    y = (indices // grid_width + 0.5) * (height / grid_height)
    return torch.stack([x.clamp(0, width - 1), y.clamp(0, height - 1)], dim=1).long()


def refine(
    similarity: Tensor, integer: Tensor, image_hw: tuple[int, int], fine_side: int = FINE_SIDE
) -> Tensor:
    """Continuous (x, y) (N, 2): pixel coordinates averaged with weights ``exp(-d^2) * softmax(m)``.

    ``m`` is the normalized map at the image's resolution (S x S, to ``fine_side`` squared, padded
    with 0 to the image's aspect, to H x W) and ``d`` the distance in pixels to the integer point.
    ``exp(-d^2)`` vanishes beyond a few pixels and the normalizer of the softmax cancels, so ``m``
    is evaluated only in a window of radius 3 around each point: within 3.1e-4 pixels of the sum
    over the whole image, at a cost that does not depend on its size.
    """
    if not len(integer):
        return similarity.new_zeros((0, 2))
    side = _side(similarity)
    normalized = _min_max(similarity).reshape(side, side)
    padding = center_crop_padding(image_hw, fine_side)
    offsets = torch.arange(-WINDOW_RADIUS, WINDOW_RADIUS + 1, device=integer.device)
    xs, ys = (integer[:, axis, None] + offsets for axis in (0, 1))
    rows, row_inside = _chain_weights(ys, image_hw[0], padding[0], fine_side, side)
    columns, column_inside = _chain_weights(xs, image_hw[1], padding[1], fine_side, side)
    rows, columns = rows.to(similarity.dtype), columns.to(similarity.dtype)
    fine = torch.einsum("nis,st,njt->nij", rows, normalized, columns)
    squared = offsets.to(similarity.dtype).square()
    weights = torch.exp(fine - squared[:, None] - squared[None, :])
    weights = weights * (row_inside[:, :, None] & column_inside[:, None, :])
    total = weights.sum(dim=(1, 2))
    shift_x = (weights.sum(dim=1) * offsets).sum(dim=1) / total
    shift_y = (weights.sum(dim=2) * offsets).sum(dim=1) / total
    return integer.to(similarity.dtype) + torch.stack([shift_x, shift_y], dim=1)


def _chain_weights(
    positions: Tensor, length: int, padding: int, fine_side: int, side: int
) -> tuple[Tensor, Tensor]:
    """Weights (N, K, S) that the pixels ``positions`` (N, K) of one axis give to the S tokens.

    The axis is resized S -> ``fine_side``, padded with zeros at both ends, resized to ``length``.
    Also returns which positions (N, K) lie inside the image.
    """
    inside = (positions >= 0) & (positions < length)
    padded_length = fine_side + 2 * padding
    lower, upper, fraction = _neighbors(positions.clamp(0, length - 1), padded_length, length)
    below = _fine_weights(lower - padding, fine_side, side)
    above = _fine_weights(upper - padding, fine_side, side)
    return torch.lerp(below, above, fraction[..., None]), inside


def _fine_weights(positions: Tensor, fine_side: int, side: int) -> Tensor:
    """Weights (..., S) of the resize S -> ``fine_side`` at ``positions``; 0 in the padding."""
    known = (positions >= 0) & (positions < fine_side)
    lower, upper, fraction = _neighbors(positions.clamp(0, fine_side - 1), side, fine_side)
    identity = torch.eye(side, device=positions.device)
    weights = torch.lerp(identity[lower], identity[upper], fraction[..., None])
    return weights * known[..., None]


def _neighbors(positions: Tensor, size_in: int, size_out: int) -> tuple[Tensor, Tensor, Tensor]:
    """Source cells below and above each target position, and how far it lies between them."""
    source = ((positions.double() + 0.5) * (size_in / size_out) - 0.5).clamp(min=0)
    lower = source.long().clamp(max=size_in - 1)
    upper = (lower + 1).clamp(max=size_in - 1)
    return lower, upper, (source - lower).float()


def _min_max(values: Tensor) -> Tensor:
    """Scale to [0, 1]; NaN for a constant map. Of equal extremes the first gets the gradient."""
    flat = values.flatten()
    lowest, highest = flat.min(dim=0).values, flat.max(dim=0).values
    return (values - lowest) / (highest - lowest)


def _varies(values: Tensor) -> bool:
    """Whether a map is finite and not constant, so that it can be scaled to [0, 1]."""
    span = values.max() - values.min()  # NaN or infinite if one of the values, or the span, is
    return bool(span.isfinite() & (span > 0))


def _side(similarity: Tensor) -> int:
    side = round(similarity.numel() ** 0.5)
    if similarity.ndim != 1 or side * side != similarity.numel():
        raise ValueError(f"SasP: the similarity has shape {tuple(similarity.shape)}, not (S * S,)")
    return side
