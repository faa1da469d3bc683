"""What a play came to: the documented JSON, the bars, and the table for the documentation."""

import itertools
from collections.abc import Sequence
from typing import Any

from benchmarks.camvid.files import read_json
from benchmarks.camvid.loop import round_path
from benchmarks.camvid.settings import ORDERS, OrderName, Play
from pipeline.errors import InputError

Json = dict[str, Any]

LARGE = ("road", "sky", "building", "tree", "car", "pavement")
LARGE_CIOU = 0.60
FORGOTTEN = 0.05
SAVED = 0.40


def result_of(play: Play, orders: Sequence[OrderName]) -> Json:
    """Return the result of orders that were played whole.

    Each order's key holds its rounds; ``before`` has the same measures before any of them,
    ``detail`` the rest of what is known of each (before the rounds first), ``seconds`` is the wall
    time of all.
    """
    result: Json = {}
    extra: Json = {"before": {}, "detail": {}, "bars": [], "seconds": 0.0}
    for order in orders:
        numbers = range(len(play.rounds) + 1)
        found = [read_json(round_path(play, order, number)) for number in numbers]
        result[order] = [one["row"] for one in found[1:]]
        extra["before"][order] = found[0]["row"]
        extra["detail"][order] = [one["detail"] for one in found]
        extra["bars"] += [{"order": order, **bar} for bar in bars([one["row"] for one in found])]
        extra["seconds"] += sum(60 * one["row"]["minutes"] for one in found)
    return {**result, **extra}


def bars(rows: Sequence[Json]) -> list[Json]:
    """Return the bars with what was found, and whether each is met.

    Args:
        rows: the measures before the first round, and after each.
    """
    first, last = rows[1], rows[-1]
    promoted = [(now, before) for before, now in itertools.pairwise(rows) if now["promoted"]]
    large = [last["ciou_by_class"][name] for name in LARGE if name in last["ciou_by_class"]]
    mean = sum(value or 0.0 for value in large) / len(large) if large else 0.0
    forgotten = max(rows[0]["replay_miou"] - row["replay_miou"] for row in rows)
    saved = 1 - last["pixels_per_image"] / first["pixels_per_image"]
    rises = {
        name: [now[name] - before[name] for now, before in promoted] for name in ("miou", "ciou")
    }
    return [
        *(
            _bar(
                f"{name} rises with every promoted round", min(gains, default=0.0), 0.0, above=True
            )
            for name, gains in rises.items()
        ),
        _bar(f"mean cIoU of {', '.join(LARGE)}", mean, LARGE_CIOU),
        _bar("points of IoU forgotten on scenes, at most", -forgotten, -FORGOTTEN),
        _bar("fewer pixels to change in the last round", saved, SAVED),
    ]


def _bar(name: str, found: float, least: float, *, above: bool = False) -> Json:
    met = found > least if above else found >= least
    return {"name": name, "found": found, "bar": least, "met": met}


def bar_lines(result: Json) -> list[str]:
    """Return a line a bar."""
    return [
        f"{'met    ' if bar['met'] else 'NOT met'} {bar['order']}: {bar['name']}: "
        f"{bar['found']:+.4f} (bar {bar['bar']:+.2f})"
        for bar in result["bars"]
    ]


def table(result: Json) -> str:
    """Return the rounds of all orders as a Markdown table."""
    names = "order", "images", "mean IoU", "cIoU", "large classes", "presence", "scenes"
    lines = [_row([*names, "pixels an image", "promoted", "minutes"]), "|---" * 10 + "|"]
    for order in played(result):
        for row in [result["before"][order], *result[order]]:
            large = [row["ciou_by_class"].get(name) or 0.0 for name in LARGE]
            shares = row["miou"], row["ciou"], sum(large) / len(large), row["presence"]
            cells = [order, str(row["images"])]
            cells += [f"{share:.3f}" for share in (*shares, row["replay_miou"])]
            pixels, promoted = row["pixels_per_image"], row["promoted"]
            cells.append("" if pixels is None else f"{pixels:,.0f}")
            cells.append("" if promoted is None else "yes" if promoted else "no")
            lines.append(_row([*cells, f"{row['minutes']:.1f}"]))
    return "\n".join(lines)


def played(result: Json) -> list[OrderName]:
    """Return the orders that a result holds.

    Raises:
        InputError: there is none.
    """
    found = [order for order in ORDERS if order in result]
    if not found:
        raise InputError(f"the result holds none of {', '.join(ORDERS)}: write one with --json")
    return found


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
