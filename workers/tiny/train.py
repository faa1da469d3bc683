"""Train the tiny READ from scratch: ``python -m workers.tiny.train --out DIR [--preset gpu]``.

Started again with the same folder it goes on where it stopped. ``DIR/state.pt`` is the state,
``DIR/curve.csv`` the loss curve, ``DIR/model`` the latest export of the averaged weights.
"""

import argparse
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from workers.read.checkpoint import load_model
from workers.read.config import ReadSettings
from workers.read.model import ReadModel
from workers.read.tokenizer import ReadTokenizer
from workers.scenes import DIFFICULTIES, EASY, HARD
from workers.tiny.data import on_device, training_steps
from workers.tiny.export import TOKENIZER_FILES, export
from workers.tiny.objective import PARTS, AuxiliaryHeads, Step, TinyLosses, tiny_losses
from workers.tiny.recipe import PRESETS, Recipe
from workers.tiny.state import LossCurve, TrainingState
from workers.tiny.vocabulary import train_tokenizer

_CURVE_EVERY = 20  # steps
_SAVE_EVERY = 120.0  # seconds
_ANSWER_TOKENS = 48
PLACE_FILE = "training.json"
"""Beside exported weights: how far their training was."""

_Tensors = tuple[Tensor, ...] | list[Tensor]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a training runs: its device, processes that build steps, precision, compilation.

    ``bfloat16`` runs everything but points, SAM's prompts and masks in bfloat16, by autocast.
    ``start`` is an export to go on from where the folder holds no state.
    """

    device: str = "cpu"
    workers: int = 1
    bfloat16: bool = False
    compile: bool = False
    start: Path | None = None


def train(out: Path, recipe: Recipe, place: Place | None = None) -> TrainingState:
    """Train until ``recipe.minutes`` are spent, over all starts, and export the result.

    Raises:
        ValueError: the folder, or the start, holds a training of another recipe or none, or the
            loss is not finite.
    """
    place = place or Place()
    out.mkdir(parents=True, exist_ok=True)
    state, tokenizer = _begin(out, recipe, place)
    if place.compile:
        for part in (state.model.clip, state.model.sam.image_encoder):
            part.compile()
    curve = LossCurve(out / "curve.csv", state.step)
    while state.seconds < recipe.minutes * 60:
        number = recipe.stage_at(state.seconds)
        if state.stage != number:
            state.stage, state.began = number, state.step
        stage, config = recipe.stages[number], state.model.config
        workers = place.workers
        steps = training_steps(recipe, stage, config, tokenizer, state.step, workers=workers)
        saved = time.monotonic()
        for losses, rate in _stage_steps(state, recipe, place, steps):
            if state.step % _CURVE_EVERY == 0:
                curve.add(_curve_row(state, rate, losses))
            if time.monotonic() - saved > _SAVE_EVERY:
                _save(state, out)
                saved = time.monotonic()
        _save(state, out)
    return state


def _begin(out: Path, recipe: Recipe, place: Place) -> tuple[TrainingState, ReadTokenizer]:
    """Return the state of the folder, of the export to start from, or a fresh one."""
    going_on = (out / "state.pt").exists()
    if place.start is not None and not going_on:
        _copy_tokenizer(place.start, out / "tokenizer")
    tokenizer = _tokenizer(out / "tokenizer")
    state = fresh_state(recipe, len(tokenizer), place.device)
    if going_on:
        state.load(out / "state.pt")
    elif place.start is not None:
        start_from(state, place.start, recipe)
    return state, tokenizer


def _stage_steps(
    state: TrainingState, recipe: Recipe, place: Place, steps: Iterator[Step]
) -> Iterator[tuple[TinyLosses, float]]:
    """Take the rest of a stage's steps; yields the losses and the rate of each."""
    device = torch.device(place.device)
    _, end = recipe.stage_seconds(state.stage)
    while state.seconds < end:
        started = time.monotonic()
        step = on_device(next(steps), device)
        with torch.autocast(device.type, torch.bfloat16, enabled=place.bfloat16):
            told = run_step(state, step, recipe)
        state.seconds += time.monotonic() - started
        yield told


def fresh_state(recipe: Recipe, vocabulary: int, device: str = "cpu") -> TrainingState:
    """Return a model with random weights, the same for the same seed, and its optimizer."""
    torch.manual_seed(recipe.seed)
    settings = ReadSettings(sasp=recipe.sasp, max_new_tokens=_ANSWER_TOKENS)
    model = ReadModel(recipe.config(vocabulary), settings).train().to(device)
    classes = 1 + len(recipe.difficulty.colors) + len(recipe.difficulty.shapes)
    heads = AuxiliaryHeads(model.config, classes).to(device)
    average = AveragedModel(model, multi_avg_fn=_averaging(recipe.averaging))
    optimizers = build_optimizers(model, heads, recipe)
    return TrainingState(model, heads, average, optimizers, recipe.kind)


def _averaging(most: float) -> Callable[[_Tensors, _Tensors, Tensor | int], None]:
    """Return an exponential average of the last steps, of a ninth or so of them at most.

    ``most`` is the share that the average keeps of itself a step when there have been many; a
    short training's average would be half of what it began with.
    """

    def average(averages: _Tensors, weights: _Tensors, steps: Tensor | int) -> None:
        kept = min(most, (1 + int(steps)) / (10 + int(steps)))
        get_ema_multi_avg_fn(kept)(averages, weights, steps)

    return average


def build_optimizers(
    model: ReadModel, heads: AuxiliaryHeads, recipe: Recipe
) -> tuple[Optimizer, ...]:
    """Return AdamW for everything, or Muon for the linear layers' matrices and AdamW for the rest.

    Muon makes all directions of a matrix' update equally long, here of an AdamW update's length
    (https://arxiv.org/abs/2502.16982). What chooses tokens is not a matrix in that sense.
    """
    chosen: list[Tensor] = []
    if recipe.optimizer == "muon":
        linear = (part for part in model.modules() if isinstance(part, nn.Linear))
        chosen = [part.weight for part in linear if part is not model.llama.lm_head]
    known = {id(weight) for weight in chosen}
    rest = [weight for weight in model.parameters() if id(weight) not in known]
    decay = recipe.weight_decay
    adamw = AdamW(
        [*rest, *heads.parameters()], lr=recipe.rate, betas=(0.9, 0.98), weight_decay=decay
    )
    if not chosen:
        return (adamw,)
    muon = Muon(chosen, lr=recipe.rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
    return (adamw, muon)


def start_from(state: TrainingState, folder: Path, recipe: Recipe) -> None:
    """Give a fresh state the weights and the place of an exported training, with points or without.

    What an export leaves out, optimizer and read-outs, begins anew, so the rate rises again.

    Raises:
        ValueError: the export is of another recipe, or not of a training.
    """
    path = folder / PLACE_FILE
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        message = f"{path}: cannot be read; --start needs the folder model/ of a training"
        raise ValueError(message) from error
    state.check(told, path, {replace(recipe, use_sasp=use).kind for use in (True, False)})
    weights = load_model(folder).state_dict()
    state.model.load_state_dict(weights)
    state.average.module.load_state_dict(weights)
    state.average.n_averaged.fill_(1)
    state.move_to(told)
    state.began = state.step


def run_step(state: TrainingState, step: Step, recipe: Recipe) -> tuple[TinyLosses, float]:
    """Take one optimizer step; returns its losses and its learning rate."""
    stage = recipe.stages[state.stage]
    rate = learning_rate(recipe, state)
    for optimizer in state.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
    losses = tiny_losses(state.model, state.heads, step, recipe, stage)
    losses.total.backward()
    torch.nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip_norm)
    for optimizer in state.optimizers:
        optimizer.step()
    state.average.update_parameters(state.model)
    state.step += 1
    state.scenes += 0 if step.batch is None else len(step.batch.clip_views)
    return losses, rate


def learning_rate(recipe: Recipe, state: TrainingState) -> float:
    """Return the rate: warm-up by the stage's steps, in the last stage a cosine by its minutes."""
    warm = min(1.0, (state.step - state.began + 1) / recipe.warmup)
    if state.stage < len(recipe.stages) - 1:
        return recipe.rate * warm
    begin, end = recipe.stage_seconds(state.stage)
    spent = min(1.0, (state.seconds - begin) / (end - begin))
    fall = recipe.last_rate + (1 - recipe.last_rate) * 0.5 * (1 + math.cos(math.pi * spent))
    return recipe.rate * warm * fall


def _copy_tokenizer(start: Path, folder: Path) -> None:
    """Copy an export's tokenizer, whose token ids its weights are of."""
    folder.mkdir(exist_ok=True)
    try:
        for name in TOKENIZER_FILES:
            shutil.copyfile(start / name, folder / name)
    except OSError as error:
        message = f"{start / name}: cannot be read; --start needs the folder model/ of a training"
        raise ValueError(message) from error


def _tokenizer(folder: Path) -> ReadTokenizer:
    if not (folder / "tokenizer_config.json").exists():
        train_tokenizer(folder)
    return ReadTokenizer.from_folder(folder)


def _curve_row(state: TrainingState, rate: float, losses: TinyLosses) -> dict[str, float | str]:
    total = float(losses.total.detach())
    if not math.isfinite(total):
        message = f"the loss is {total} at step {state.step}: start again with a lower rate"
        raise ValueError(message)
    return {
        "step": state.step,
        "minutes": round(state.seconds / 60, 2),
        "scenes": state.scenes,
        "rate": round(rate, 7),
        "total": round(total, 4),
        **{name: round(losses.parts[name], 4) if name in losses.parts else "" for name in PARTS},
    }


def _save(state: TrainingState, out: Path) -> None:
    state.save(out / "state.pt")
    export(cast("ReadModel", state.average.module), out / "tokenizer", out / "model")
    told, path = json.dumps({"kind": state.kind, **state.place}), out / "model" / PLACE_FILE
    partial = path.with_suffix(".partial")
    partial.write_text(told + "\n", encoding="utf-8")
    partial.replace(path)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="Train the tiny READ from scratch; resumable.")
    parser.add_argument("--out", type=Path, required=True, help="folder of state, curve and model")
    parser.add_argument("--start", type=Path, help="exported training to go on from, at first")
    parser.add_argument("--preset", choices=PRESETS, help="sizes and schedule; gpu on a GPU")
    parser.add_argument("--minutes", type=float, help="training in all; else the preset's")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--difficulty", choices=DIFFICULTIES, help="else the preset's")
    parser.add_argument("--seed", type=int, help="of weights and scenes")
    parser.add_argument("--scenes", type=int, help="pictures a step")
    parser.add_argument("--optimizer", choices=("adamw", "muon"), help="else the preset's")
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
        start=arguments.start,
    )
    recipe = chosen_recipe(arguments, "gpu" if on_gpu else "cpu")
    if recipe.minutes <= recipe.last_begins:
        sys.stderr.write(
            f"{recipe.minutes:g} minutes train no mask: the last of {len(recipe.stages)} stages "
            f"begins after {recipe.last_begins:g}\n"
        )
    try:
        train(arguments.out, recipe, place)
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
    names = ("minutes", "seed", "optimizer")
    told = {name: getattr(arguments, name) for name in names}
    if arguments.scenes is not None:
        asking = (
            replace(one, scenes=arguments.scenes) if one.scenes else one for one in recipe.stages
        )
        recipe = replace(recipe, stages=tuple(asking))
    changed = {name: value for name, value in told.items() if value is not None}
    return replace(recipe, use_sasp=not arguments.no_sasp, **changed)


if __name__ == "__main__":
    main()
