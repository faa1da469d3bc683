"""From scenes to training batches: pictures, prompts with answers, and dense truth."""

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from workers.read.batches import TaughtPicture, TaughtRow, build_batch, shrink
from workers.read.config import ReadConfig
from workers.read.images import clip_view, sam_size
from workers.read.prompt import PromptSettings, question
from workers.read.tokenizer import ReadTokenizer
from workers.read.train import TrainingBatch
from workers.scenes import Difficulty, Query, Scene, render
from workers.tiny.objective import SUBPIXELS, SceneTargets
from workers.tiny.recipe import Recipe
from workers.tiny.vocabulary import ANSWER

_EXTRA = 1_000_000_000
"""Index of the first extra scene, far behind those that are asked about."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one training step sees."""

    batch: TrainingBatch
    targets: SceneTargets


class SceneSteps(IterableDataset[bytes]):
    """Training steps from ``first`` on, pickled; step n holds the scenes after those of step n - 1.

    Of several workers each builds every so manieth step. A step's many tensors travel as one
    string of bytes, not each through shared memory and a file of its own.
    """

    def __init__(
        self, recipe: Recipe, config: ReadConfig, tokenizer: ReadTokenizer, first: int
    ) -> None:
        self.recipe, self.config, self.tokenizer, self.first = recipe, config, tokenizer, first

    def __iter__(self) -> Iterator[bytes]:
        """Yield steps without end."""
        cv2.setNumThreads(0)
        torch.set_num_threads(1)
        worker = get_worker_info()
        place, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        recipe, number = self.recipe, self.first + place
        while True:
            scenes = _scenes(recipe, number * recipe.scenes_per_step, recipe.scenes_per_step)
            extra = _scenes(recipe, _EXTRA + number * recipe.extra_scenes, recipe.extra_scenes)
            yield pickle.dumps(build_step(scenes, extra, recipe, self.config, self.tokenizer))
            number += workers


def _scenes(recipe: Recipe, first: int, count: int) -> list[Scene]:
    side = recipe.extra_side if first >= _EXTRA else recipe.scene_side
    indices = range(first, first + count)
    return [render(recipe.seed, index, recipe.difficulty, side) for index in indices]


def training_steps(
    recipe: Recipe, config: ReadConfig, tokenizer: ReadTokenizer, first: int, workers: int = 1
) -> Iterator[Step]:
    """Yield training steps in order, built ahead in so many processes of their own."""
    dataset = SceneSteps(recipe, config, tokenizer, first)
    loader = DataLoader(dataset, batch_size=None, num_workers=workers, prefetch_factor=3)
    for content in loader:
        yield pickle.loads(content)  # noqa: S301  (from our own process)


def on_device(step: Step, device: torch.device) -> Step:
    """Return the step with its tensors on a device."""
    batch, targets = step.batch, step.targets
    moved = {
        name: getattr(batch, name).to(device, non_blocking=True)
        for name in ("clip_views", "sam_views", "input_ids", "labels")
    }
    masks = [mask.to(device, non_blocking=True) for mask in batch.masks]
    dense = {
        field.name: getattr(targets, field.name).to(device, non_blocking=True)
        for field in fields(targets)
        if isinstance(getattr(targets, field.name), Tensor)
    }
    return Step(replace(batch, **moved, masks=masks), replace(targets, **dense))


def build_step(
    scenes: list[Scene],
    extra: list[Scene],
    recipe: Recipe,
    config: ReadConfig,
    tokenizer: ReadTokenizer,
) -> Step:
    """Build one step: every query of ``scenes`` is a row about its picture, ``extra`` has none."""
    scenes = [scene for scene in scenes if scene.queries]
    settings = PromptSettings()
    pictures = [taught_scene(scene, scene.queries, settings) for scene in scenes]
    batch = build_batch(pictures, config, settings, tokenizer, recipe.loss_side)
    return Step(batch, scene_targets(scenes, extra, recipe.difficulty, config))


def taught_scene(scene: Scene, queries: Sequence[Query], settings: PromptSettings) -> TaughtPicture:
    """Return a scene with some of its queries and their answers."""
    rows = (
        TaughtRow(
            question(query.text, settings),
            query.denial or ANSWER,
            (scene.mask(query),) if query.present else (),
        )
        for query in queries
    )
    return TaughtPicture(scene.image, tuple(rows))


def scene_targets(
    scenes: list[Scene],
    extra: list[Scene],
    difficulty: Difficulty,
    config: ReadConfig,
) -> SceneTargets:
    """Measure how much of each cell the objects of the scenes cover."""
    side, grid = config.clip.side, config.sam.grid
    tokens, cells, foreground = [], [], []
    for scene in scenes:
        height, width = scene.image.shape[:2]
        size = sam_size((height, width), config.sam.image)
        fine = np.stack([view_shares(mask, size, grid, SUBPIXELS) for mask in scene.masks])
        coarse = cv2.resize(fine.transpose(1, 2, 0), (grid, grid), interpolation=cv2.INTER_AREA)
        coarse = np.atleast_3d(np.asarray(coarse, np.float32)).transpose(2, 0, 1)
        tokens.append(_central_classes(scene, side, difficulty))
        cells.append(_classes(scene, coarse, difficulty))
        foreground.append(fine.sum(axis=0).clip(0, 1))
    return SceneTargets(
        token_classes=_stack(tokens),
        sam_classes=_stack(cells),
        extra_views=_stack([clip_view(one.image, config.clip_view) for one in extra]),
        extra_classes=_stack([_central_classes(one, side, difficulty) for one in extra]),
        foreground=_stack(foreground),
        colors=len(difficulty.colors),
    )


def central_shares(mask: NDArray[np.bool_], side: int) -> NDArray[np.float32]:
    """Return how much of each cell of the central square the mask covers, (side, side)."""
    height, width = mask.shape
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    square = mask[top : top + edge, left : left + edge]
    return shrink(square, (side, side))


def view_shares(
    mask: NDArray[np.bool_], view_size: tuple[int, int], grid: int, parts: int
) -> NDArray[np.float32]:
    """Return how much of each part of the SAM view's cells the mask covers, (parts * grid,) * 2.

    ``view_size`` (H', W') is the part of the view that the picture fills.
    """
    side = grid * 16
    view = np.zeros((side, side), np.float32)
    view[: view_size[0], : view_size[1]] = shrink(mask, view_size)
    fine = parts * grid
    return np.asarray(cv2.resize(view, (fine, fine), interpolation=cv2.INTER_AREA), np.float32)


def _stack(arrays: Sequence[NDArray[np.float32]]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))


def _central_classes(scene: Scene, side: int, difficulty: Difficulty) -> NDArray[np.float32]:
    shares = np.stack([central_shares(mask, side) for mask in scene.masks])
    return _classes(scene, shares, difficulty)


def _classes(
    scene: Scene, shares: NDArray[np.float32], difficulty: Difficulty
) -> NDArray[np.float32]:
    """Sort the objects' shares (objects, n, n) by class: (n * n, background + colors + shapes)."""
    colors, shapes = difficulty.colors, difficulty.shapes
    result = np.zeros((shares.shape[1] ** 2, 1 + len(colors) + len(shapes)), np.float32)
    for item, share in zip(scene.objects, shares, strict=True):
        result[:, 1 + colors.index(item.color)] += share.ravel()
        result[:, 1 + len(colors) + shapes.index(item.shape)] += share.ravel()
    result[:, 0] = (1 - shares.sum(axis=0)).clip(0, 1).ravel()
    return result
