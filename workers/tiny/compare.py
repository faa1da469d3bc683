"""SasP against none, trained alike: ``python -m workers.tiny.compare --out DIR --minutes 5``.

For every seed one training with points and one without, of equal minutes on equal scenes, each
judged on the same held-out scenes. Started again it goes on where it stopped. The auxiliary loss on
the similarity map is the same in both: without SasP the map is trained, but nothing reads it.
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
    trials = [
        trial(
            out / f"seed-{recipe.seed + number}-{'on' if use else 'off'}",
            replace(recipe, seed=recipe.seed + number, use_sasp=use),
            place,
            scenes,
        )
        for number in range(seeds)
        for use in (True, False)
    ]
    gains = [on.mean_iou - off.mean_iou for on, off in zip(trials[::2], trials[1::2], strict=True)]
    spread = float(np.std(gains, ddof=1)) if seeds > 1 else float("nan")
    return trials, {"mean_gain": float(np.mean(gains)), "deviation": spread}


def main() -> None:
    """Read the command line, compare, print one JSON object."""
    parser = argparse.ArgumentParser(description="Train with and without SasP, and compare.")
    parser.add_argument("--out", type=Path, required=True, help="folder of all trainings")
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--minutes", type=float, default=5.0, help="of each training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--count", type=int, default=200, help="held-out scenes")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw scenes")
    arguments = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    recipe = replace(PRESETS[arguments.preset], minutes=arguments.minutes)
    if recipe.minutes <= recipe.last_begins:
        parser.error(
            f"{recipe.minutes:g} minutes train no mask: ask for more --minutes than the "
            f"{recipe.last_begins:g} after which the preset's last stage begins"
        )
    place = Place(arguments.device, arguments.workers)
    trials, gain = compare(arguments.out, recipe, place, arguments.seeds, arguments.count)
    shown = {"trials": [asdict(one) for one in trials], **gain}
    sys.stdout.write(json.dumps(shown) + "\n")


if __name__ == "__main__":
    main()
