"""Images a second of a whole ``readloop label`` run, and where the time goes, at 1 and 2 replicas.

The tiny checkpoint labels generated scenes on this machine; both runs share one Ray, and what it
takes to load the model is part of each. Shares are of the run's wall time: fetch, decode, encode,
answer and mask are the replicas' seconds divided by their number, commit those of the driver, and
other is all that remains, mostly the start of the replicas.

Usage: benchmarks/label.py [--json] [--images N]
"""

import argparse
import json
import sys
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.cli.terminal import chatter_on_stderr
from pipeline.config import RunFile
from pipeline.label import LabelRun
from pipeline.progress import Progress
from workers.cluster import ray_session
from workers.scenes import write_scenes
from workers.settings import PoolSettings

REPOSITORY = Path(__file__).resolve().parents[1]
SEED = 20_240_117
WORKER_STAGES = ("fetch", "decode", "encode", "answer", "mask")


def measure(folder: Path, manifest: Path, replicas: int) -> dict[str, Any]:
    """Label the scenes with that many replicas into a store of their own."""
    run = LabelRun(
        RunFile.model_validate(
            {
                "name": "benchmark",
                "store": str(folder / f"store-{replicas}"),
                "source": {"images": str(manifest)},
                "model": str(REPOSITORY / "configs" / "models" / "tiny"),
                "pool": {"replicas": replicas, "images_per_batch": 4},
            }
        ),
        None,
        threading.Event(),
        Progress(),
    )
    summary = run.label()
    assert not summary.failed, "every scene can be labeled"
    seconds = dict.fromkeys(WORKER_STAGES, 0.0)
    for rows in run.tables.read_by_image(run.plan.keys):
        for row in rows:
            for stage, spent in asdict(row.timings).items():
                seconds[stage] += spent / replicas
    seconds["commit"] = summary.stages.commit
    seconds["other"] = max(0.0, summary.seconds - sum(seconds.values()))
    return {
        "replicas": replicas,
        "images": summary.images,
        "queries": summary.queries,
        "seconds": round(summary.seconds, 2),
        "images_per_second": round(summary.images_per_second, 3),
        "shares": {stage: round(spent / summary.seconds, 4) for stage, spent in seconds.items()},
    }


def main() -> None:
    """Measure both and print them with their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--images", type=int, default=100)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, chatter_on_stderr():
        manifest = write_scenes(SEED, arguments.images, Path(name) / "scenes")
        with ray_session(PoolSettings()):
            runs = [measure(Path(name), manifest, replicas) for replicas in (1, 2)]
    ratio = runs[1]["images_per_second"] / runs[0]["images_per_second"]
    report = {"runs": runs, "ratio": round(ratio, 3)}
    sys.stdout.write(json.dumps(report) + "\n" if arguments.json else as_text(report))


def as_text(report: dict[str, Any]) -> str:
    """Return one line a run and the ratio."""
    lines = []
    for run in report["runs"]:
        shares = "  ".join(f"{stage} {share:.1%}" for stage, share in run["shares"].items())
        lines.append(
            f"{run['replicas']} replica(s): {run['images_per_second']:.2f} images/s "
            f"({run['images']} images, {run['queries']} queries, {run['seconds']:.1f} s)  {shares}"
        )
    return "\n".join([*lines, f"2 replicas : 1 replica = {report['ratio']:.2f}", ""])


if __name__ == "__main__":
    main()
