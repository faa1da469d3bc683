"""Train the tiny READ from scratch: ``python -m workers.tiny.train --out DIR [--preset gpu]``.

Started again with the same folder it goes on where it stopped. ``DIR/state.pt`` is the state,
``DIR/curve.csv`` the loss curve, ``DIR/model`` the latest export of the averaged weights.
"""

import argparse
import math
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from workers.read.config import ReadSettings
from workers.read.model import ReadModel
from workers.read.tokenizer import ReadTokenizer
from workers.scenes import DIFFICULTIES, EASY, HARD
from workers.tiny.data import Step, on_device, training_steps
from workers.tiny.export import export
from workers.tiny.objective import AuxiliaryHeads, TinyLosses, tiny_losses
from workers.tiny.recipe import PRESETS, Recipe
from workers.tiny.state import LossCurve, TrainingState
from workers.tiny.vocabulary import train_tokenizer

_CURVE_EVERY = 20  # steps
_SAVE_EVERY = 120.0  # seconds
_ANSWER_TOKENS = 48


@dataclass(frozen=True, slots=True)
class Place:
    """Where a training runs: its device, processes that build steps, precision, compilation.

    ``bfloat16`` runs everything but points, SAM's prompts and masks in bfloat16, by autocast.
    """

    device: str = "cpu"
    workers: int = 1
    bfloat16: bool = False
    compile: bool = False


def train(out: Path, recipe: Recipe, place: Place | None = None) -> TrainingState:
    """Train until ``recipe.minutes`` are spent, over all starts, and export the result.

    Raises:
        ValueError: the folder holds a training of another recipe, or the loss is not finite.
    """
    place = place or Place()
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(out / "tokenizer")
    state = fresh_state(recipe, len(tokenizer), place.device)
    if (out / "state.pt").exists():
        state.load(out / "state.pt")
    if place.compile:
        for part in (state.model.clip, state.model.sam.image_encoder):
            part.compile()
    curve = LossCurve(out / "curve.csv", state.step)
    saved = time.monotonic()
    steps = training_steps(recipe, state.model.config, tokenizer, state.step, place.workers)
    device = torch.device(place.device)
    while state.seconds < recipe.minutes * 60:
        started = time.monotonic()
        step = on_device(next(steps), device)
        with torch.autocast(device.type, torch.bfloat16, enabled=place.bfloat16):
            losses, rate = run_step(state, step, recipe)
        state.seconds += time.monotonic() - started
        if state.step % _CURVE_EVERY == 0:
            curve.add(_curve_row(state, recipe, rate, losses))
        if time.monotonic() - saved > _SAVE_EVERY:
            _save(state, out)
            saved = time.monotonic()
    _save(state, out)
    return state


def fresh_state(recipe: Recipe, vocabulary: int, device: str = "cpu") -> TrainingState:
    """Return a model with random weights, the same for the same seed, and its optimizer."""
    torch.manual_seed(recipe.seed)
    settings = ReadSettings(sasp=recipe.sasp, max_new_tokens=_ANSWER_TOKENS)
    model = ReadModel(recipe.config(vocabulary), settings).train().to(device)
    classes = 1 + len(recipe.difficulty.colors) + len(recipe.difficulty.shapes)
    heads = AuxiliaryHeads(model.config, classes).to(device)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.averaging))
    optimizer = AdamW(
        [*model.parameters(), *heads.parameters()],
        lr=recipe.rate,
        betas=(0.9, 0.98),
        weight_decay=recipe.weight_decay,
    )
    return TrainingState(model, heads, average, optimizer, recipe.kind)


def run_step(state: TrainingState, step: Step, recipe: Recipe) -> tuple[TinyLosses, float]:
    """Take one optimizer step; returns its losses and its learning rate."""
    rate = learning_rate(recipe, state.step, state.seconds)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    losses = tiny_losses(state.model, state.heads, step.batch, step.targets, recipe)
    state.optimizer.zero_grad(set_to_none=True)
    losses.total.backward()
    torch.nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip_norm)
    state.optimizer.step()
    state.average.update_parameters(state.model)
    state.step += 1
    return losses, rate


def learning_rate(recipe: Recipe, step: int, seconds: float) -> float:
    """Return the rate at a step: warm-up by steps, cosine by the share of the minutes spent."""
    spent = min(1.0, seconds / (recipe.minutes * 60))
    fall = recipe.last_rate + (1 - recipe.last_rate) * 0.5 * (1 + math.cos(math.pi * spent))
    return recipe.rate * min(1.0, (step + 1) / recipe.warmup) * fall


def _tokenizer(folder: Path) -> ReadTokenizer:
    if not (folder / "tokenizer_config.json").exists():
        train_tokenizer(folder)
    return ReadTokenizer.from_folder(folder)


def _curve_row(
    state: TrainingState, recipe: Recipe, rate: float, losses: TinyLosses
) -> dict[str, float]:
    total = float(losses.total.detach())
    if not math.isfinite(total):
        message = f"the loss is {total} at step {state.step}: start again with a lower rate"
        raise ValueError(message)
    return {
        "step": state.step,
        "minutes": round(state.seconds / 60, 2),
        "scenes": state.step * recipe.scenes_per_step,
        "rate": round(rate, 7),
        "total": round(total, 4),
        **{name: round(value, 4) for name, value in losses.parts.items()},
    }


def _save(state: TrainingState, out: Path) -> None:
    state.save(out / "state.pt")
    export(cast("ReadModel", state.average.module), out / "tokenizer", out / "model")


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="Train the tiny READ from scratch; resumable.")
    parser.add_argument("--out", type=Path, required=True, help="folder of state, curve and model")
    parser.add_argument("--preset", choices=PRESETS, help="sizes and schedule; gpu on a GPU")
    parser.add_argument("--minutes", type=float, help="training in all; else the preset's")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--difficulty", choices=DIFFICULTIES, help="else the preset's")
    parser.add_argument("--seed", type=int, help="of weights and scenes")
    parser.add_argument("--scenes", type=int, help="pictures a step")
    parser.add_argument("--no-sasp", action="store_true", help="prompt SAM by [SEG] alone")
    parser.add_argument("--workers", type=int, help="processes that draw scenes")
    parser.add_argument("--bfloat16", action="store_true", help="autocast")
    parser.add_argument("--compile", action="store_true", help="compile CLIP and SAM's encoder")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of torch")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_float32_matmul_precision("high")
    on_gpu = arguments.device != "cpu"
    place = Place(
        device=arguments.device,
        workers=arguments.workers or (max(1, (os.cpu_count() or 2) - 2) if on_gpu else 1),
        bfloat16=arguments.bfloat16,
        compile=arguments.compile,
    )
    try:
        train(arguments.out, chosen_recipe(arguments, "gpu" if on_gpu else "cpu"), place)
    except ValueError as error:
        parser.exit(1, f"{error}\n")


def chosen_recipe(arguments: argparse.Namespace, preset: str) -> Recipe:
    """Return a preset (``preset`` unless one is asked for) with what the command line changes.

    Hard scenes are drawn without the held-out pairs of attributes.
    """
    recipe = PRESETS[arguments.preset or preset]
    if arguments.difficulty == "hard" and recipe.difficulty == EASY:
        recipe = replace(recipe, difficulty=replace(HARD, pairs="training"))
    if arguments.difficulty == "easy":
        recipe = replace(recipe, difficulty=EASY)
    told = {"minutes": arguments.minutes, "seed": arguments.seed}
    told["scenes_per_step"] = arguments.scenes
    changed = {name: value for name, value in told.items() if value is not None}
    return replace(recipe, use_sasp=not arguments.no_sasp, **changed)


if __name__ == "__main__":
    main()
