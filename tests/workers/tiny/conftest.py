"""A tokenizer trained in the test run, and one small training step."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from workers.read.tokenizer import ReadTokenizer
from workers.scenes import EASY, render
from workers.tiny.data import StepScenes, build_step
from workers.tiny.objective import Step
from workers.tiny.recipe import Recipe, Stage, tiny_config
from workers.tiny.state import TrainingState
from workers.tiny.train import fresh_state
from workers.tiny.vocabulary import train_tokenizer


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(folder, scenes=250)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: Path) -> ReadTokenizer:
    return ReadTokenizer.from_folder(tokenizer_folder)


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return replace(Recipe(), stages=(Stage(scenes=2, tower_scenes=2),), scene_side=128, warmup=2)


@pytest.fixture(scope="session")
def step(tokenizer: ReadTokenizer, recipe: Recipe) -> Step:
    scenes = [render(41, index, EASY, max_side=128) for index in range(2)]
    shown = StepScenes(asked=scenes, tower=scenes)
    return build_step(shown, recipe, recipe.stages[0], tiny_config(len(tokenizer)), tokenizer)


@pytest.fixture
def state(recipe: Recipe, tokenizer: ReadTokenizer) -> TrainingState:
    return fresh_state(recipe, len(tokenizer))
