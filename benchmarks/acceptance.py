"""How many judged images accepting without a look needs, and whether its bound holds.

Simulated reviews: scores are even in [0, 1], and an image is wrong with a chance that depends on
its score. Prints, for each profile, number of images and way to begin the search, how often a
threshold is found, the share of images accepted (0 where none is found), and how often the true
share of wrong images over the threshold is more than the bound says: at most 5 % of the draws.

    .venv/bin/python benchmarks/acceptance.py [--draws 150] [--json]
"""

import argparse
import json
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.review.acceptance import GRID, Choice, Judged, choose, fewest_images, sequence

ERROR, CONFIDENCE = 0.05, 0.95
STEP = 0.5
Risk = Callable[[NDArray[np.float64]], NDArray[np.float64]]
PROFILES: dict[str, Risk] = {
    "even": lambda score: (1 - score) / 4,
    "steep": lambda score: (1 - score) / 2,
    "step": lambda score: np.where(score < STEP, 0.52, 0.02),
}
STARTS = ("1.5 times the fewest", "2.2 times the fewest", "likeliest (in use)")


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=150)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [
        simulate(name, count, start, options.draws)
        for name in PROFILES
        for count in (300, 1000, 2000)
        for start in STARTS
    ]
    if options.json:
        print(json.dumps({"draws": options.draws, "rows": rows}))
        return
    for row in rows:
        print(
            f"{row['profile']:6} {row['images']:5} images, {row['start']:21}: found "
            f"{row['found']:.2f}, accepted {row['accepted']:.2f}, broken {row['broken']:.3f}"
        )


def simulate(profile: str, count: int, start: str, draws: int) -> dict[str, object]:
    """Return how the search fares over many reviews of one kind."""
    random = np.random.default_rng(0)
    found: list[Choice] = []
    for _ in range(draws):
        fitted, tested = draw(random, profile, count // 2), draw(random, profile, count)
        thresholds = begin(start, fitted, count)
        choice = choose(thresholds, tested, ERROR, CONFIDENCE)
        if choice is not None:
            found.append(choice)
    return {
        "profile": profile,
        "images": count,
        "start": start,
        "found": len(found) / draws,
        "accepted": sum(1 - choice.threshold for choice in found) / draws,
        "broken": sum(risk_over(profile, choice.threshold) > ERROR for choice in found) / draws,
    }


def draw(random: np.random.Generator, profile: str, count: int) -> list[Judged]:
    """Return images with their scores and whether they are wrong."""
    scores = random.random(count)
    wrong = random.random(count) < PROFILES[profile](scores)
    return [Judged(float(score), bool(bad)) for score, bad in zip(scores, wrong, strict=True)]


def begin(start: str, fitted: list[Judged], sample: int) -> list[float]:
    """Return the thresholds to test for one way to begin."""
    if start == STARTS[-1]:
        return sequence(fitted, sample, ERROR, CONFIDENCE)
    scores = np.array([image.expected_iou for image in fitted])
    needed = float(start.split(maxsplit=1)[0]) * fewest_images(ERROR, CONFIDENCE)
    enough = [n for n, place in enumerate(GRID) if sample * (scores >= place).mean() >= needed]
    return list(GRID[enough[0] if enough else -1 :])


def risk_over(profile: str, threshold: float) -> float:
    """Return the true share of wrong images over a threshold."""
    return float(PROFILES[profile](np.linspace(threshold, 1, 10_001)).mean())


if __name__ == "__main__":
    main()
