"""Similarity as points: the original's numbers, its rounding quirk, and maps it cannot take."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import workers.read
from workers.read import SasPSettings, center_crop_padding, refine, sasp_grid, sasp_points


def blob(side: int, seed: int = 0) -> torch.Tensor:
    """A random similarity map (side * side,)."""
    return torch.randn(side * side, generator=torch.Generator().manual_seed(seed))


def test_the_rounding_quirk_crops_one_cell_at_each_end_of_the_short_axis() -> None:
    assert center_crop_padding((355, 500), 12) == (-1, 2)
    assert center_crop_padding((480, 640), 12) == (0, 2)
    assert sasp_grid(blob(24), (355, 500), SasPSettings()).values.shape == (10, 16)
    assert sasp_grid(blob(24), (480, 640), SasPSettings()).values.shape == (12, 16)


def test_points_of_every_recorded_map_equal_the_originals(shared: Path) -> None:
    folder = shared / "goldens" / "read"
    cases = json.loads((folder / "manifest.json").read_text())["sasp"]
    with np.load(folder / "goldens" / "sasp.npz") as arrays:
        for case in (case for case in cases if "raises" not in case):
            key = case["key"]
            settings = SasPSettings(**case["params"])
            points = sasp_points(torch.tensor(arrays[f"{key}/sm"]), tuple(case["shape"]), settings)
            assert np.array_equal(points.integer, arrays[f"{key}/points_int"]), key
            assert np.array_equal(points.labels, arrays[f"{key}/labels"]), key
            assert np.abs(points.xy.numpy() - arrays[f"{key}/points"]).max() < 1e-3, key


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_a_map_without_contrast_gives_no_points(value: float) -> None:
    similarity = torch.full((64,), value, requires_grad=True)
    points = sasp_points(similarity, (100, 140), SasPSettings())
    assert points.xy.shape == (0, 2)
    assert points.integer.shape == (0, 2)
    assert len(points.labels) == len(points.similarity) == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 3e38])
def test_one_value_that_cannot_be_scaled_gives_no_points(value: float) -> None:
    similarity = blob(8)
    similarity[3] = value
    similarity[4] = -3e38
    assert len(sasp_points(similarity, (64, 64), SasPSettings()).xy) == 0


@pytest.mark.parametrize("side", [5, 7, 9])
@pytest.mark.parametrize("value", [0.1, 1 / 3, 12345.678])
def test_a_constant_map_gives_no_points_however_it_is_resized(side: int, value: float) -> None:
    similarity = torch.full((side * side,), value)
    assert len(sasp_points(similarity, (64, 64), SasPSettings(down_sample=2)).xy) == 0


@pytest.mark.parametrize("down_sample", [8, 4])
def test_a_map_of_few_cells_is_not_cropped_away(down_sample: int) -> None:
    for short in range(1, 200):
        points = sasp_points(blob(8), (short, short), SasPSettings(down_sample=down_sample))
        assert points.xy.isfinite().all()
        assert len(points.xy) == (0 if down_sample == 8 else 4)


def whole_image_mean(similarity: torch.Tensor, hw: tuple[int, int], xy: list[int]) -> torch.Tensor:
    """The refinement by its definition: a weighted mean over every pixel, in float64."""
    side = int(len(similarity) ** 0.5)
    span = similarity.max() - similarity.min()
    fine = ((similarity - similarity.min()) / span).reshape(1, 1, side, side)
    fine = torch.nn.functional.interpolate(fine, (336, 336), mode="bilinear")
    rows, columns = center_crop_padding(hw, 336)
    fine = torch.nn.functional.pad(fine, (columns, columns, rows, rows))
    fine = torch.nn.functional.interpolate(fine, hw, mode="bilinear")[0, 0]
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in hw), indexing="ij")
    weights = fine.flatten().softmax(0).reshape(hw)
    weights = weights * torch.exp(-((x - xy[0]) ** 2) - (y - xy[1]) ** 2)
    return torch.stack([(weights * x).sum(), (weights * y).sum()]) / weights.sum()


@pytest.mark.parametrize("image_hw", [(90, 120), (1, 30), (355, 40), (37, 37)])
def test_the_window_gives_the_mean_over_the_whole_image_and_its_gradient(
    image_hw: tuple[int, int],
) -> None:
    similarity = blob(7).requires_grad_()
    exact = similarity.detach().double().requires_grad_()
    settings = SasPSettings(num_points=3, down_sample=1)
    points = sasp_points(similarity, image_hw, settings)
    expected = torch.stack(
        [whole_image_mean(exact, image_hw, xy) for xy in points.integer.tolist()]
    )
    weights = torch.tensor([[1.0, -2.0], [3.0, 0.5], [-1.0, 1.0]])
    (points.xy * weights).sum().backward()
    (expected * weights).sum().backward()
    assert (points.xy - expected).abs().max() < 3.1e-4
    assert similarity.grad is not None
    assert exact.grad is not None
    assert (similarity.grad - exact.grad).abs().max() < 1e-4 * exact.grad.abs().max()


def test_labels_and_similarity_follow_the_thresholds() -> None:
    points = sasp_points(blob(24), (333, 500), SasPSettings(num_points=200))
    positive, negative, neutral = (points.similarity[points.labels == k] for k in (1, 0, -1))
    assert (positive >= 0.8).all()
    assert (positive.diff() <= 0).all()
    assert ((negative >= 0) & (negative <= 0.2)).all()
    assert (negative.diff() >= 0).all()
    assert ((neutral > 0.2) & (neutral < 0.8)).all()


def test_half_precision_maps_give_float32_points_that_autocast_leaves_alone() -> None:
    similarity = blob(24).bfloat16()
    points = sasp_points(similarity, (1100, 1500), SasPSettings())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = sasp_points(similarity, (1100, 1500), SasPSettings())
    assert points.xy.dtype == torch.float32
    assert torch.equal(points.xy, again.xy)


def test_a_huge_image_needs_no_map_of_its_size() -> None:
    points = sasp_points(blob(24), (30_000, 4_000_000), SasPSettings())
    assert len(points.xy) == 30
    assert (points.xy - points.integer).abs().max() < 1


def test_no_module_takes_the_name_of_what_the_package_offers(repository: Path) -> None:
    modules = {path.stem for path in (repository / "workers" / "read").iterdir()}
    assert not modules & set(workers.read.__all__)


def test_no_integer_points_refine_to_none() -> None:
    assert refine(blob(4), torch.zeros((0, 2), dtype=torch.int64), (10, 10)).shape == (0, 2)


def test_a_map_that_is_not_square_or_has_no_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="not \\(S \\* S,\\)"):
        sasp_points(torch.zeros(6), (10, 10), SasPSettings())
    with pytest.raises(ValueError, match="down_sample 5 leaves no cell"):
        sasp_points(torch.rand(16), (10, 10), SasPSettings(down_sample=5))


@pytest.mark.parametrize("image_hw", [(90, 120), (355, 40)])
def test_gradients_hold_in_float64(image_hw: tuple[int, int]) -> None:
    similarity = blob(6, seed=2).double().requires_grad_()
    settings = SasPSettings(num_points=5, down_sample=1)
    assert sasp_points(similarity, image_hw, settings).xy.dtype == torch.float64
    assert torch.autograd.gradcheck(
        lambda values: sasp_points(values, image_hw, settings).xy, similarity, eps=1e-5
    )


def test_float32_maps_follow_their_float64_form() -> None:
    exact = sasp_points(blob(24).double(), (480, 640), SasPSettings())
    points = sasp_points(blob(24), (480, 640), SasPSettings())
    assert torch.equal(points.integer, exact.integer)
    assert (points.xy - exact.xy).abs().max() < 1e-4


def test_sasp_stands_alone() -> None:
    code = (
        "import sys, workers.read; assert 'torch' not in sys.modules; workers.read.sasp_points; "
        "mine = [name for name in sys.modules if name.startswith('workers.')]; "
        "assert set(mine) == {'workers.read', 'workers.read.sasp', 'workers.read.sasp_settings'}; "
        "assert not {'transformers', 'segment_anything', 'cv2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_the_example_points_at_its_disk(repository: Path) -> None:
    example = runpy.run_path(str(repository / "examples" / "sasp_with_another_model.py"))
    share, gradient = example["main"]()
    assert share == 1
    assert gradient.isfinite().all()
    assert (gradient != 0).all()
