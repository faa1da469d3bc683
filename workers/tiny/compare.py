"""SasP against none, trained alike: ``python -m workers.tiny.compare --out DIR --minutes 5``.

For every seed one training with points and one without, of equal minutes on equal scenes, each
judged on the same held-out scenes. Stages before the last use no points: they are trained once, and
all trainings start from there. Started again it goes on where it stopped. The auxiliary loss on the
similarity map is the same in both: without SasP the map is trained, but nothing reads it.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from workers.read.engine import ReadEngine
from workers.scenes import Difficulty
from workers.tiny.evaluate import evaluate
from workers.tiny.recipe import PRESETS, Recipe
from workers.tiny.train import Place, train

HELD_OUT_SEED = 71_001


@dataclass(frozen=True, slots=True)
class Trial:
    """One training's figures on the held-out scenes."""

    sasp: bool
    seed: int
    steps: int
    mean_iou: float
    ciou: float
    presence_accuracy: float


def trial(out: Path, recipe: Recipe, place: Place, scenes: int) -> Trial:
    """Train (or go on), judge, and write the figures; a finished one is only read."""
    done = out / "trial.json"
    if done.exists():
        return Trial(**json.loads(done.read_text(encoding="utf-8")))
    state = train(out, recipe, place)
    engine = ReadEngine.load(out / "model", device=place.device)
    knobs: Difficulty = replace(recipe.difficulty, pairs="all", queries=(5, 5))
    found = evaluate(engine, HELD_OUT_SEED, scenes, knobs)
    result = Trial(
        sasp=recipe.use_sasp,
        seed=recipe.seed,
        steps=state.step,
        mean_iou=found.mean_iou,
        ciou=found.ciou,
        presence_accuracy=found.presence_accuracy,
    )
    done.write_text(json.dumps(asdict(result)) + "\n", encoding="utf-8")
    return result


def compare(
    out: Path, recipe: Recipe, place: Place, seeds: int, scenes: int
) -> tuple[list[Trial], dict[str, float]]:
    """Run all trials; returns them, and mean and standard deviation of the paired differences."""
    place = _common_start(out / "start", recipe, place)
    trials = []
    for number in range(seeds):
        for use, name in ((True, "on"), (False, "off")):
            seed = recipe.seed + number
            chosen = replace(recipe, seed=seed, use_sasp=use)
            found = trial(out / f"seed-{seed}-{name}", chosen, place, scenes)
            sys.stderr.write(f"seed {seed}, SasP {name}: mean IoU {found.mean_iou:.3f}\n")
            trials.append(found)
    gains = [on.mean_iou - off.mean_iou for on, off in zip(trials[::2], trials[1::2], strict=True)]
    spread = float(np.std(gains, ddof=1)) if seeds > 1 else float("nan")
    return trials, {"mean_gain": float(np.mean(gains)), "deviation": spread}


def _common_start(out: Path, recipe: Recipe, place: Place) -> Place:
    """Train the stages that no mask is compared in; returns the place of those that go on."""
    if not recipe.last_begins:
        return place
    sys.stderr.write(f"{out}: {recipe.last_begins:g} minutes of training for all of them\n")
    train(out, replace(recipe, minutes=recipe.last_begins), place)
    return replace(place, start=out / "model")


def main() -> None:
    """Read the command line, compare, print one JSON object."""
    parser = argparse.ArgumentParser(description="Train with and without SasP, and compare.")
    parser.add_argument("--out", type=Path, required=True, help="folder of all trainings")
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--minutes", type=float, default=5.0, help="of each one's last stage")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--count", type=int, default=200, help="held-out scenes")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw scenes")
    parser.add_argument("--bfloat16", action="store_true", help="autocast while training")
    arguments = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    preset = PRESETS[arguments.preset]
    recipe = replace(preset, minutes=preset.last_begins + arguments.minutes)
    place = Place(arguments.device, arguments.workers, arguments.bfloat16)
    try:
        trials, gain = compare(arguments.out, recipe, place, arguments.seeds, arguments.count)
    except ValueError as error:
        parser.exit(1, f"{error}\n")
    shown = {"trials": [asdict(one) for one in trials], **gain}
    sys.stdout.write(json.dumps(shown) + "\n")


if __name__ == "__main__":
    main()
