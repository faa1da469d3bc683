"""What a polygon's tolerance saves in corners and costs in IoU.

Masks are like SAM's: smooth logits of 256x256, enlarged bilinearly and cut. Half of them are cut
low, so that they have holes, which polygons fill. Seconds are CPU, of the whole of a mask's way to
polygons, the measuring of its loss included.

    python benchmarks/polygons.py [--json]
"""

import argparse
import json
import time

import cv2
import numpy as np

from pipeline import masks
from pipeline.exchange.polygons import Loss, outlines
from pipeline.records import Rle

SIZES = ((480, 640), (1080, 1920), (3000, 4000))
TOLERANCES = (0.0, 0.25, 0.5, 1.0, 2.0)
MASKS = 10


def made(height: int, width: int, seed: int, *, holes: bool) -> Rle:
    """Return a mask of that size."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal((256, 256)).astype(np.float32)
    logits = cv2.GaussianBlur(noise, (0, 0), 12)
    large = cv2.resize(logits / logits.std(), (width, height), interpolation=cv2.INTER_LINEAR)
    return masks.encode(large > (-0.5 if holes else 1.0))


def measured(height: int, width: int, tolerance: float, *, holes: bool) -> dict[str, object]:
    """Return what polygons of some masks of one size cost."""
    rows = [made(height, width, seed, holes=holes) for seed in range(MASKS)]
    loss, corners = Loss(), 0
    began = time.process_time()
    for row in rows:
        corners += sum(len(polygon) for polygon in outlines(row, tolerance, loss))
    seconds = (time.process_time() - began) / MASKS
    return {
        "size": f"{width}x{height}",
        "tolerance": tolerance,
        "corners": corners // MASKS,
        "milliseconds": round(1000 * seconds, 1),
        **loss.to_json(),
    }


def main() -> None:
    """Print a line for each size and tolerance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    as_json = parser.parse_args().json
    rows = [
        measured(*size, tolerance, holes=holes)
        for holes in (False, True)
        for size in SIZES
        for tolerance in TOLERANCES
    ]
    if as_json:
        print(json.dumps({"rows": rows}))
        return
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
