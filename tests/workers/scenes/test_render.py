"""Scenes: the same on every call, inside their knobs, with masks that lie on what is drawn."""

from dataclasses import replace

import numpy as np
import pytest

from workers.scenes import EASY, HARD, Difficulty, describe, render
from workers.scenes.difficulty import is_held_out

SETTINGS = pytest.mark.parametrize("difficulty", [EASY, HARD], ids=["easy", "hard"])


@SETTINGS
def test_the_same_seed_and_index_give_the_same_scene(difficulty: Difficulty) -> None:
    first, second = (render(3, 5, difficulty, max_side=200) for _ in range(2))
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.masks, second.masks)
    assert first.queries == second.queries


def test_another_index_or_seed_gives_another_scene() -> None:
    objects = {render(seed, index, max_side=64).objects for seed in (1, 2) for index in (0, 1)}
    assert len(objects) == 4


@SETTINGS
def test_scenes_keep_to_their_knobs(difficulty: Difficulty) -> None:
    for index in range(12):
        scene = render(11, index, difficulty)
        height, width = scene.image.shape[:2]
        assert difficulty.long_side[0] <= max(height, width) <= difficulty.long_side[1]
        assert min(height, width) >= difficulty.short_side
        assert difficulty.aspect[0] * 0.97 <= width / height <= difficulty.aspect[1] * 1.03
        assert difficulty.objects[0] <= len(scene.objects) <= difficulty.objects[1]
        for item, mask in zip(scene.objects, scene.masks, strict=True):
            least = difficulty.target_area[0] * (1 - difficulty.hidden_share)
            assert least * 0.85 <= mask.mean() <= difficulty.target_area[1] * 1.1
            assert item.color in difficulty.colors
            assert item.shape in difficulty.shapes


def test_no_side_of_a_hard_scene_is_shorter_than_asked_whatever_its_aspect() -> None:
    sizes = [describe(19, index, HARD)[0] for index in range(150)]
    assert 200 <= min(min(size) for size in sizes) < 230
    assert all(0.5 * 0.99 <= width / height <= 2 * 1.01 for height, width in sizes)
    assert 1500 < max(max(size) for size in sizes) <= 1600


def test_hard_scenes_differ_in_size_and_aspect_and_hide_parts() -> None:
    scenes = [render(12, index, HARD, max_side=1600) for index in range(12)]
    ratios = [scene.image.shape[1] / scene.image.shape[0] for scene in scenes]
    assert min(ratios) < 0.75
    assert max(ratios) > 1.4
    hidden = [
        1 - mask.mean() / item.area
        for scene in scenes
        for item, mask in zip(scene.objects, scene.masks, strict=True)
    ]
    assert max(hidden) > 0.1


def test_masks_never_overlap() -> None:
    for index in range(8):
        assert render(13, index, HARD, max_side=300).masks.sum(axis=0).max() == 1


def test_a_mask_holds_its_objects_color() -> None:
    plain = replace(EASY, texture=0.0, colors=("red", "blue"), hidden_share=0.0)
    for index in range(6):
        scene = render(14, index, plain)
        for item, mask in zip(scene.objects, scene.masks, strict=True):
            red, _, blue = scene.image[mask].mean(axis=0)
            assert (red > blue) == (item.color == "red")


def test_max_side_draws_the_same_scene_smaller() -> None:
    large, small = render(15, 2), render(15, 2, max_side=160)
    assert max(small.image.shape) == 160
    assert small.queries == large.queries
    assert np.allclose(small.masks.mean(axis=(1, 2)), large.masks.mean(axis=(1, 2)), atol=0.004)


def test_the_shorter_side_may_be_bounded_too() -> None:
    full = render(15, 3, HARD)
    height, width = full.image.shape[:2]
    assert height < width
    shorter, both, longer = (
        render(15, 3, HARD, max_side, max_short_side)
        for max_side, max_short_side in ((None, 112), (128, 112), (256, 112))
    )
    assert shorter.image.shape == both.image.shape
    assert min(shorter.image.shape[:2]) == 112
    assert max(longer.image.shape) == 256
    assert shorter.queries == longer.queries == full.queries
    assert np.allclose(shorter.masks.mean(axis=(1, 2)), full.masks.mean(axis=(1, 2)), atol=0.004)
    small = render(15, 3, replace(HARD, long_side=(200, 200)), None, 250)
    assert max(small.image.shape) == 200


def test_objects_stay_in_the_central_square_when_asked() -> None:
    for index in range(10):
        scene = render(16, index, EASY)
        height, width = (side / min(scene.image.shape[:2]) for side in scene.image.shape[:2])
        for item in scene.objects:
            assert abs(item.x - width / 2) <= 0.45
            assert abs(item.y - height / 2) <= 0.45


def test_training_pairs_and_held_out_pairs_are_apart() -> None:
    training, held_out = (replace(EASY, pairs=pairs) for pairs in ("training", "held_out"))
    for index in range(15):
        for item in render(17, index, training, max_side=48).objects:
            assert not is_held_out(item.color, item.shape, training)
        scene = render(17, index, held_out, max_side=48)
        asked = scene.objects[scene.queries[0].targets[0]]
        assert is_held_out(asked.color, asked.shape, held_out)


def test_too_large_objects_are_refused_with_the_knob_to_turn() -> None:
    with pytest.raises(ValueError, match="lower target_area"):
        render(1, 0, replace(EASY, objects=(5, 5), target_area=(0.5, 0.6)))
