"""How much one point changes a mask: does the model listen to a person?

    python benchmarks/points.py [--json] [--model FOLDER]

For each demo query with a predicted mask, one point is added to its own: "outside" at the pixel of
the mask nearest to the mask's center, or "inside" in the corner of the picture farthest from it.
Printed is for how many queries the mask obeys at that pixel, and how many keep an IoU of 0.95 with
the mask before.
"""

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from workers.read.engine import Answer, ReadEngine
from workers.read.images import decode
from workers.read.repointing import PromptPoints, embed, refine

DEMO = Path(__file__).resolve().parents[1] / "configs" / "demo"
TINY = Path(__file__).resolve().parents[1] / "configs" / "models" / "tiny"
SAME = 0.95


def changes(engine: ReadEngine) -> Iterator[tuple[str, bool, float]]:
    """Yield for each query and kind of point whether the mask obeys, and its IoU with before."""
    queries: dict[str, list[str]] = defaultdict(list)
    with (DEMO / "manifest.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            queries[row["image"]].append(row["query"])
    for name, texts in queries.items():
        pixels = decode((DEMO / name).read_bytes(), 10**8)
        image = embed(engine.model, pixels)
        for answer in engine.predict(pixels, texts):
            if not isinstance(answer, Answer) or not answer.present or len(answer.segments) > 1:
                continue
            (segment,) = answer.segments
            for kind, (x, y) in places(segment.mask).items():
                sign = int(kind == "inside")
                points = PromptPoints(
                    np.vstack([segment.points_xy, np.array([[x, y]], np.float32)]),
                    np.append(segment.point_labels, sign).astype(np.int64),
                )
                vectors = [segment.query_vector.tolist()]
                mask = refine(engine.model, image, vectors, [points]).mask
                common, either = (mask & segment.mask).sum(), (mask | segment.mask).sum()
                yield kind, bool(mask[y, x]) == bool(sign), float(common / either)


def places(mask: np.ndarray) -> dict[str, tuple[int, int]]:
    """Return where the points go, (x, y)."""
    rows, columns = np.nonzero(mask)
    middle = np.array([columns.mean(), rows.mean()])
    nearest = int(np.argmin((columns - middle[0]) ** 2 + (rows - middle[1]) ** 2))
    height, width = mask.shape
    far = (
        width - 20 if middle[0] < width / 2 else 20,
        height - 20 if middle[1] < height / 2 else 20,
    )
    return {"outside": (int(columns[nearest]), int(rows[nearest])), "inside": far}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--model", type=Path, default=TINY)
    asked = parser.parse_args()
    found = list(changes(ReadEngine.load(asked.model)))
    result = {}
    for kind in ("outside", "inside"):
        chosen = [(obeys, iou) for name, obeys, iou in found if name == kind]
        result[kind] = {
            "queries": len(chosen),
            "obey": sum(obeys for obeys, _ in chosen),
            "unchanged": sum(iou >= SAME for _, iou in chosen),
        }
    if asked.json:
        print(json.dumps(result))
        return
    for kind, counts in result.items():
        print(
            f"one point {kind}: of {counts['queries']} masks {counts['obey']} obey, "
            f"{counts['unchanged']} keep an IoU of {SAME} with before"
        )


if __name__ == "__main__":
    main()
