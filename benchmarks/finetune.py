"""Fine-tuning steps without Ray: samples a second, and the most memory that was held.

A sample is one query on one picture. Without a preset the bundled tiny checkpoint learns generated
scenes on this machine: with READ's own trainable parts, with all of them, and with read-outs that
show the same pictures to the encoders alone; the ratio of the last two is printed. ``--preset 7b``
builds a random model in the layout and the sizes of READ-7B on a GPU and takes steps with adapters
at 1024 pixels, frozen parts in bfloat16, gradients checkpointed; ``--preset small`` is the same
code with tiny sizes, for any machine.

Usage: benchmarks/finetune.py [--preset 7b|small] [--device cuda] [--steps N] [--images N]
       [--queries N] [--at-once N] [--no-checkpointing] [--json]
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workers.finetune.building import build_model, prepare
from workers.finetune.loop import peak_bytes, run_step
from workers.finetune.parallel import StepPart, World, training_step
from workers.finetune.readouts import build_reading
from workers.finetune.settings import ReadOutSettings, TrainSettings
from workers.finetune.state import build_optimizer
from workers.read.batches import TaughtPicture, TaughtRow, build_batch
from workers.read.config import CLIP_L_336, SAM_VIT_H, LlamaSizes, ReadConfig
from workers.read.lora import LoraSettings, attach
from workers.read.model import ReadModel
from workers.read.prompt import PromptSettings, question
from workers.read.tokenizer import ReadTokenizer
from workers.scenes import render
from workers.tiny.data import taught_scene
from workers.tiny.recipe import tiny_config

TINY = Path(__file__).resolve().parents[1] / "configs" / "models" / "tiny"
VICUNA_7B = LlamaSizes(
    vocab=32_003, hidden=4096, intermediate=11_008, layers=32, heads=32, key_value_heads=32
)
WARM_UP = 2


def random_model(config: ReadConfig, settings: TrainSettings, device: str) -> ReadModel:
    """Build a model with random weights of a released model's types, adapters attached."""
    half = settings.precision == "bfloat16"
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if half else torch.float32)
    try:
        with torch.device(device):
            model = ReadModel(config)
    finally:
        torch.set_default_dtype(before)
    model.sam.prompt_encoder.float()
    model.sam.mask_decoder.float()
    attach(model, LoraSettings(**settings.lora.model_dump()))
    prepare(model, settings)
    return model.to(device)


def random_pictures(count: int, queries: int, side: int) -> list[TaughtPicture]:
    """Return pictures of noise, 4 to 3, each with the same queries about its left part."""
    random = np.random.default_rng(0)
    pictures = []
    for _ in range(count):
        image = random.integers(0, 255, (side * 3 // 4, side, 3), np.uint8)
        mask = np.zeros(image.shape[:2], bool)
        mask[:, : side // 3] = True
        asked = question("the thing that could roll away", PromptSettings())
        row = TaughtRow(asked, "Sure, it is [SEG].", (mask,))
        pictures.append(TaughtPicture(image, (row,) * queries))
    return pictures


def scene_pictures(count: int, queries: int, side: int) -> list[TaughtPicture]:
    """Return generated scenes with so many of their queries."""
    scenes = [render(1, index, max_side=side) for index in range(count)]
    return [taught_scene(scene, scene.queries[:queries], PromptSettings()) for scene in scenes]


def parts_of(
    pictures: list[TaughtPicture], model: ReadModel, settings: TrainSettings
) -> list[StepPart]:
    """Divide the pictures of a step into what is worked on at once."""
    tokenizer, size = ReadTokenizer.from_folder(TINY), settings.images_at_once
    return [
        StepPart(build_batch(pictures[at : at + size], model.config, PromptSettings(), tokenizer))
        for at in range(0, len(pictures), size)
    ]


def measure(
    name: str,
    model: ReadModel,
    pictures: list[TaughtPicture],
    settings: TrainSettings,
    *,
    device: str,
    questions: Sequence[str] = (),
) -> dict[str, Any]:
    """Take the steps and return the figures; with questions, steps that only read those out."""
    parts = (
        [StepPart(None, build_reading(pictures, questions, model.config))]
        if questions
        else parts_of(pictures, model, settings)
    )
    step = training_step(model, len(questions), settings)
    optimizer = build_optimizer(step, settings)
    world = World(device=device)
    seconds, losses = [], []
    for _ in range(WARM_UP + (settings.steps or 1)):
        begun = time.perf_counter()
        found, _ = run_step(step, optimizer, parts, settings, world)
        losses.append(float(found.sum()))  # waits for the device
        seconds.append(time.perf_counter() - begun)
    median = statistics.median(seconds[WARM_UP:])
    rows = sum(len(picture.rows) for picture in pictures)
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {
        "name": name,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "learning": learning,
        "images": len(pictures),
        "samples": rows,
        "step_seconds": round(median, 4),
        "samples_per_second": round(rows / median, 3),
        "images_per_second": round(len(pictures) / median, 3),
        "peak_gb": round(peak_bytes(device) / 1e9, 3),
        "losses": [round(loss, 4) for loss in losses],
    }


def tiny_runs(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure the bundled checkpoint with READ's trainable parts, with all, and with read-outs."""
    pictures = scene_pictures(arguments.images, arguments.queries, 256)
    questions = sorted({row.question for picture in pictures for row in picture.rows})
    taken = {"steps": arguments.steps, "images_at_once": arguments.at_once}
    runs = []
    for name, settings in (
        ("adapters", TrainSettings(**taken)),
        ("all", TrainSettings(**taken, parts="all")),
        ("read-outs", TrainSettings(**taken, parts="all", readouts=ReadOutSettings())),
    ):
        model = build_model(TINY, settings, "cpu")
        asked = questions if settings.readouts else ()
        found = measure(f"tiny, {name}", model, pictures, settings, device="cpu", questions=asked)
        runs.append(found)
    return runs


def preset_runs(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure a random model with adapters."""
    big = arguments.preset == "7b"
    settings = TrainSettings(
        steps=arguments.steps,
        images_at_once=arguments.at_once,
        precision="bfloat16",
        gradient_checkpointing=arguments.checkpointing,
    )
    config = (
        ReadConfig(llama=VICUNA_7B, clip=CLIP_L_336, sam=SAM_VIT_H)
        if big
        else tiny_config(len(ReadTokenizer.from_folder(TINY)))
    )
    pictures = random_pictures(arguments.images, arguments.queries, 1024 if big else 256)
    model = random_model(config, settings, arguments.device)
    return [measure(arguments.preset, model, pictures, settings, device=arguments.device)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=("7b", "small"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--queries", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--no-checkpointing", dest="checkpointing", action="store_false")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.preset == "7b" and not arguments.device.startswith("cuda"):
        parser.error("--preset 7b needs a GPU; --preset small takes the same steps anywhere")
    runs = preset_runs(arguments) if arguments.preset else tiny_runs(arguments)
    report: dict[str, Any] = {"device": arguments.device if arguments.preset else "cpu"}
    report["runs"] = runs
    if not arguments.preset:
        *_, taught, read = runs
        report["readout_ratio"] = round(taught["step_seconds"] / read["step_seconds"], 2)
    sys.stdout.write(json.dumps(report) + "\n" if arguments.json else as_text(report))


def as_text(report: dict[str, Any]) -> str:
    """Return a line a run, and one for the ratio if there is one."""
    lines = "".join(
        f"{run['name']} on {report['device']}: {run['samples_per_second']:.2f} samples/s, "
        f"{run['images_per_second']:.2f} images/s, {run['step_seconds']:.2f} s a step, "
        f"peak {run['peak_gb']:.2f} GB, {run['learning']:,} of {run['parameters']:,} learn\n"
        for run in report["runs"]
    )
    if "readout_ratio" not in report:
        return lines
    return f"{lines}a step of read-outs is {report['readout_ratio']} times as fast\n"


if __name__ == "__main__":
    main()
