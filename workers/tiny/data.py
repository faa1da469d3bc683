"""From scenes to training batches: pictures, prompts with answers, and dense truth."""

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from workers.read.batches import TaughtPicture, TaughtRow, build_batch, shrink
from workers.read.config import ReadConfig
from workers.read.images import clip_view, sam_size, sam_view
from workers.read.prompt import PromptSettings, question
from workers.read.tokenizer import ReadTokenizer
from workers.read.train import TrainingBatch
from workers.scenes import Difficulty, Query, Scene, Side, along, render
from workers.tiny.objective import PLACE, SUBPIXELS, SceneTargets, Step
from workers.tiny.recipe import Recipe, Stage
from workers.tiny.vocabulary import ANSWER

_POLITE = 15
"""Niceness of processes that draw: on few cores a step, which they prepare for, goes first."""

_STRIDE = 1000
"""Indices of scenes between the first of one step and the first of the next."""

_AGAIN_AFTER = 40
"""Steps after which pictures of the CLIP tower come again, mirrored."""

_TOWER, _OUTLINE = 1_000_000_000, 2_000_000_000
"""Index of the first scene that only the CLIP tower sees, and only SAM's encoder."""


class SceneSteps(IterableDataset[bytes]):
    """Steps of a stage from number ``first`` on, pickled; each number has scenes of its own.

    Of several workers each builds every so manieth step. A step's many tensors travel as one
    string of bytes, not each through shared memory and a file of its own.
    """

    def __init__(
        self,
        recipe: Recipe,
        stage: Stage,
        config: ReadConfig,
        tokenizer: ReadTokenizer,
        first: int,
    ) -> None:
        self.recipe, self.stage, self.first = recipe, stage, first
        self.config, self.tokenizer = config, tokenizer

    def __iter__(self) -> Iterator[bytes]:
        """Yield steps without end."""
        cv2.setNumThreads(0)
        torch.set_num_threads(1)
        worker = get_worker_info()
        if worker:
            os.nice(_POLITE)
        place, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        number = self.first + place
        draw = lru_cache(maxsize=self.stage.pictures * _AGAIN_AFTER)(render)
        while True:
            scenes = step_scenes(self.recipe, self.stage, number, draw)
            step = build_step(scenes, self.recipe, self.stage, self.config, self.tokenizer)
            yield pickle.dumps(step)
            number += workers


@dataclass(frozen=True, slots=True)
class StepScenes:
    """Scenes of a step: ``asked`` with their queries, and for one encoder alone the others."""

    asked: Sequence[Scene] = ()
    tower: Sequence[Scene] = ()
    outline: Sequence[Scene] = ()


def step_scenes(
    recipe: Recipe, stage: Stage, number: int, draw: Callable[..., Scene] = render
) -> StepScenes:
    """Draw the scenes of step ``number``, each as large as the views of those that see it.

    ``draw`` is :func:`render`, perhaps one that remembers.
    """
    knobs = _knobs(recipe.difficulty, stage)

    def drawn(
        first: int, count: int, longer: int | None, shorter: int | None, number: int = number
    ) -> list[Scene]:
        start = first + number * _STRIDE
        return [draw(recipe.seed, start + place, knobs, longer, shorter) for place in range(count)]

    longer = recipe.scene_side if stage.compares_masks else None
    asked = drawn(0, stage.scenes, longer, recipe.tower_side)
    tower = drawn(_TOWER, stage.tower_scenes, None, recipe.tower_side)
    if stage.tower_again and number >= _AGAIN_AFTER:
        earlier = number - _AGAIN_AFTER
        again = drawn(_TOWER, stage.tower_again, None, recipe.tower_side, earlier)
        tower += [mirrored(scene) for scene in again]
    return StepScenes(
        asked=[scene for scene in asked if scene.queries],
        tower=tower,
        outline=drawn(_OUTLINE, stage.outline_scenes, recipe.scene_side, None),
    )


def _knobs(difficulty: Difficulty, stage: Stage) -> Difficulty:
    """Return the difficulty with as many queries, and of such kinds, as the stage asks."""
    kinds = tuple(
        (kind, often * stage.relations if kind == "relation" else often)
        for kind, often in difficulty.kinds
    )
    most = stage.queries
    queries = difficulty.queries if most is None else (most, most)
    return replace(difficulty, queries=queries, kinds=kinds)


def mirrored(scene: Scene) -> Scene:
    """Return a scene seen in a mirror; without its queries, which may name sides."""
    height, width = scene.image.shape[:2]
    objects = (replace(item, x=width / min(height, width) - item.x) for item in scene.objects)
    return replace(
        scene,
        image=np.ascontiguousarray(scene.image[:, ::-1]),
        masks=np.ascontiguousarray(scene.masks[:, :, ::-1]),
        objects=tuple(objects),
        queries=(),
    )


def training_steps(
    recipe: Recipe,
    stage: Stage,
    config: ReadConfig,
    tokenizer: ReadTokenizer,
    first: int,
    *,
    workers: int = 1,
) -> Iterator[Step]:
    """Yield a stage's steps in order, built ahead in so many processes of their own."""
    dataset = SceneSteps(recipe, stage, config, tokenizer, first)
    loader = DataLoader(dataset, batch_size=None, num_workers=workers, prefetch_factor=3)
    for content in loader:
        yield pickle.loads(content)  # noqa: S301  (from our own process)


def on_device(step: Step, device: torch.device) -> Step:
    """Return the step with its tensors on a device."""
    targets = step.targets
    dense = {
        field.name: getattr(targets, field.name).to(device, non_blocking=True)
        for field in fields(targets)
        if isinstance(getattr(targets, field.name), Tensor)
    }
    batch = None if step.batch is None else _batch_on(step.batch, device)
    return Step(batch, replace(targets, **dense))


def _batch_on(batch: TrainingBatch, device: torch.device) -> TrainingBatch:
    moved = {
        name: getattr(batch, name).to(device, non_blocking=True)
        for name in ("clip_views", "sam_views", "input_ids", "labels")
    }
    masks = [mask.to(device, non_blocking=True) for mask in batch.masks]
    return replace(batch, **moved, masks=masks)


def build_step(
    scenes: StepScenes,
    recipe: Recipe,
    stage: Stage,
    config: ReadConfig,
    tokenizer: ReadTokenizer,
) -> Step:
    """Build one step: every query of the asked scenes is a row about its picture."""
    settings = PromptSettings()
    pictures = [taught_scene(scene, scene.queries, settings) for scene in scenes.asked]
    targets = scene_targets(scenes, stage, recipe.difficulty, config)
    if not pictures:
        return Step(None, targets)
    batch = build_batch(
        pictures,
        config,
        settings,
        tokenizer,
        recipe.loss_side,
        masks_compared=stage.compares_masks,
    )
    return Step(batch, targets)


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
    scenes: StepScenes, stage: Stage, difficulty: Difficulty, config: ReadConfig
) -> SceneTargets:
    """Measure how much of each cell the objects of the scenes cover."""
    seen_by_sam = [*(scenes.asked if stage.compares_masks else ()), *scenes.outline]
    side, sam = config.clip.side, config.sam
    tower = [clip_view(scene.image, config.clip_view) for scene in scenes.tower]
    outline = [sam_view(scene.image, sam.image)[0] for scene in scenes.outline]
    cells = [_sam_cells(scene, difficulty, config) for scene in seen_by_sam]
    asked_cells = [_central_cells(scene, side, difficulty) for scene in scenes.asked]
    tower_cells = [_central_cells(scene, side, difficulty) for scene in scenes.tower]
    classes = 1 + len(difficulty.colors) + len(difficulty.shapes)
    return SceneTargets(
        token_classes=_stack([one for one, _ in asked_cells], (side**2, classes)),
        token_places=_stack([one for _, one in asked_cells], (side**2, 1 + PLACE)),
        sam_classes=_stack([one for one, _ in cells], (sam.grid**2, classes)),
        foreground=_stack([one for _, one in cells], (SUBPIXELS * sam.grid,) * 2),
        tower_views=_stack(tower, (3, config.clip.image, config.clip.image)),
        tower_classes=_stack([one for one, _ in tower_cells], (side**2, classes)),
        tower_places=_stack([one for _, one in tower_cells], (side**2, 1 + PLACE)),
        outline_views=_stack(outline, (3, sam.image, sam.image)),
        relations=_relations(scenes.asked),
        colors=len(difficulty.colors),
    )


def _relations(scenes: Sequence[Scene]) -> Tensor:
    """Say where the ends of the relations lie that are asked for, see ``SceneTargets``."""
    rows = [
        (0.0, 0.0, 0.0)
        if query.relation is None
        else (
            1.0,
            _from_middle(scene, query.relation.anchor, query.relation.side),
            _from_middle(scene, query.relation.foremost, query.relation.side),
        )
        for scene in scenes
        for query in scene.queries
    ]
    return torch.tensor(rows).reshape(-1, 3)


def _from_middle(scene: Scene, number: int, side: Side) -> float:
    """How far to a side an object lies from the middle, in sides of the central square."""
    height, width = (pixels / min(scene.image.shape[:2]) for pixels in scene.image.shape[:2])
    item = scene.objects[number]
    return along(replace(item, x=item.x - width / 2, y=item.y - height / 2), side)


def _sam_cells(
    scene: Scene, difficulty: Difficulty, config: ReadConfig
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the classes of SAM's cells (g * g, Q), and the foreground (4g, 4g)."""
    grid = config.sam.grid
    height, width = scene.image.shape[:2]
    size = sam_size((height, width), config.sam.image)
    fine = np.stack([view_shares(mask, size, grid, SUBPIXELS) for mask in scene.masks])
    coarse = cv2.resize(fine.transpose(1, 2, 0), (grid, grid), interpolation=cv2.INTER_AREA)
    shares = np.atleast_3d(np.asarray(coarse, np.float32)).transpose(2, 0, 1)
    return _classes(scene, shares, difficulty), fine.sum(axis=0).clip(0, 1)


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


def _stack(arrays: Sequence[NDArray[np.float32]], shape: tuple[int, ...]) -> Tensor:
    """Return arrays of a shape as one tensor with a first dimension more, which may be 0."""
    return torch.from_numpy(np.stack(arrays)) if arrays else torch.zeros((0, *shape))


def _central_cells(
    scene: Scene, side: int, difficulty: Difficulty
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the classes of the central square's cells (n * n, Q), and their places (n * n, 4)."""
    shares = np.stack([central_shares(mask, side) for mask in scene.masks])
    return _classes(scene, shares, difficulty), _places(scene, shares)


def _places(scene: Scene, shares: NDArray[np.float32]) -> NDArray[np.float32]:
    """Say of each cell which object covers most of it, see ``SceneTargets.token_places``."""
    height, width = (pixels / min(scene.image.shape[:2]) for pixels in scene.image.shape[:2])
    objects = np.array(
        [
            (
                item.x - (width - 1) / 2,
                item.y - (height - 1) / 2,
                0.5 * np.log(item.area * width * height),
            )
            for item in scene.objects
        ],
        np.float32,
    )
    flat = shares.reshape(len(shares), -1)
    return np.concatenate([flat.max(axis=0)[:, None], objects[flat.argmax(axis=0)]], axis=1)


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
