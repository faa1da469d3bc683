"""What makes a training step of the tiny model short on a CPU: both sides of each, in one process.

``python benchmarks/training_step.py [--preset sharp] [--threads 2] [--json]`` from the repository
takes steps of every stage of a preset in float32 and under bfloat16 autocast, and runs the language
model, forward and backward, over the rows of a stage that asks, each on its own and behind the
beginning that rows about one picture share.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from workers.read.beginnings import common_beginning, shared_hidden
from workers.read.tokenizer import ReadTokenizer
from workers.read.train import TrainingBatch
from workers.tiny.data import build_step, step_scenes
from workers.tiny.objective import Step
from workers.tiny.recipe import PRESETS, Recipe
from workers.tiny.state import TrainingState
from workers.tiny.train import fresh_state, run_step

TOKENIZER = Path(__file__).parents[1] / "configs" / "models" / "tiny"


@dataclass(frozen=True)
class Row:
    """One comparison: median seconds of both sides, and how many times as long the slow one takes.

    ``queries`` are those of the measured step.
    """

    what: str
    queries: int
    slow: str
    slow_seconds: float
    fast: str
    fast_seconds: float

    @property
    def ratio(self) -> float:
        """Seconds of the slow side for each of the fast one."""
        return self.slow_seconds / self.fast_seconds


def steps(state: TrainingState, step: Step, recipe: Recipe, repeats: int) -> Row:
    """Take whole steps of the state's stage, in both precisions."""

    def taken(precision: torch.dtype | None) -> float:
        def work() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=precision is not None):
                run_step(state, step, recipe)

        return _seconds(work, repeats)

    whole, half = taken(None), taken(torch.bfloat16)
    queries = 0 if step.batch is None else len(step.batch.input_ids)
    what = f"a step of stage {state.stage + 1}"
    return Row(what, queries, "float32", whole, "bfloat16", half)


def beginnings(state: TrainingState, batch: TrainingBatch, repeats: int) -> Row:
    """Run the language model over a batch's rows, apart and behind shared beginnings."""
    model = state.model
    with torch.no_grad():
        tokens = model.image_tokens(model.clip_features(batch.clip_views))
        rows = model.embed(batch.input_ids, tokens[list(batch.image_index)])
    shared = common_beginning(batch.input_ids, tokens.shape[1])

    def together(embeddings: Tensor) -> Tensor:
        return shared_hidden(model, embeddings, batch.image_index, shared)

    def timed(run: Callable[[Tensor], Tensor]) -> float:
        def work() -> None:
            embeddings = rows.clone().requires_grad_()
            with torch.autocast("cpu", torch.bfloat16):
                run(embeddings).float().square().mean().backward()

        return _seconds(work, repeats)

    apart, behind = timed(model.hidden), timed(together)
    what = "language model over its rows"
    return Row(what, len(batch.input_ids), "apart", apart, "shared beginnings", behind)


def _seconds(work: Callable[[], None], repeats: int) -> float:
    """Median wall time, after one run that is not counted."""
    work()
    seconds = []
    for _ in range(repeats):
        begun = time.monotonic()
        work()
        seconds.append(time.monotonic() - begun)
    return statistics.median(seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="sharp")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    recipe = PRESETS[arguments.preset]
    tokenizer = ReadTokenizer.from_folder(TOKENIZER)
    state = fresh_state(recipe, len(tokenizer))
    rows, asked = [], None
    for number, stage in enumerate(recipe.stages):
        sys.stderr.write(f"stage {number + 1} of {len(recipe.stages)}\n")
        state.stage = number
        scenes = step_scenes(recipe, stage, 0)
        step = build_step(scenes, recipe, stage, state.model.config, tokenizer)
        rows.append(steps(state, step, recipe, arguments.repeats))
        asked = asked or step.batch
    if asked is not None:
        rows.append(beginnings(state, asked, arguments.repeats))
    if arguments.json:
        print(json.dumps([{**asdict(row), "ratio": row.ratio} for row in rows]))
        return
    for row in rows:
        print(
            f"{row.what}, {row.queries} queries: {row.slow} {row.slow_seconds:.2f} s, "
            f"{row.fast} {row.fast_seconds:.2f} s, ratio {row.ratio:.1f}"
        )


if __name__ == "__main__":
    main()
