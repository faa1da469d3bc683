"""A result as a drawing (SVG, no library needed): quality, and work, by corrected images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.camvid.report import played
from benchmarks.camvid.settings import OrderName

Json = dict[str, Any]
Points = Sequence[tuple[float, float, bool]]
"""Places of a line, and whether a point there is filled."""

_WIDTH, _HEIGHT = 860, 360
_COLORS: dict[OrderName, str] = {"worst": "#c2410c", "random": "#1d4ed8"}
_NAMES: dict[OrderName, str] = {"worst": "worst first", "random": "in random order"}
_LINES = (("miou", "mean IoU", ""), ("ciou", "cIoU", "7 4"), ("replay_miou", "scenes", "1 4"))
_TICKS = 5


@dataclass(frozen=True, slots=True)
class _Panel:
    """A square of the drawing with axes from 0: its corners in pixels, the axes' ends."""

    left: float
    right: float
    most_x: float
    most_y: float
    top: float = 70
    bottom: float = 310

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point of the axes lies in the drawing."""
        across = self.left + (self.right - self.left) * x / self.most_x
        return across, self.bottom - (self.bottom - self.top) * y / self.most_y

    def line(self, points: Points, color: str, dashes: str) -> str:
        """Return a line with its points, filled or hollow."""
        placed = [self.place(x, y) for x, y, _ in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        drawn = [
            f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2" '
            f'stroke-dasharray="{dashes}"/>'
        ]
        for (x, y), (_, _, filled) in zip(placed, points, strict=True):
            fill = color if filled else "white"
            drawn.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{fill}" stroke="{color}" '
                'stroke-width="1.5"/>'
            )
        return "\n".join(drawn)

    def axes(self, title: str, ticks: Sequence[int], unit: str) -> str:
        """Return title, frame and ticks; those across are ``ticks``."""
        drawn = [_text(self.left, self.top - 14, title, weight="bold")]
        for step in range(_TICKS + 1):
            value = self.most_y * step / _TICKS
            y = self.place(0, value)[1]
            drawn.append(_rule(self.left, y, self.right, y))
            drawn.append(_text(self.left - 6, y + 4, f"{value:g}{unit}", anchor="end"))
        for tick in ticks:
            x = self.place(tick, 0)[0]
            drawn.append(_rule(x, self.bottom, x, self.bottom + 4))
            drawn.append(_text(x, self.bottom + 18, str(tick), anchor="middle"))
        middle = (self.left + self.right) / 2
        drawn.append(_text(middle, self.bottom + 38, "corrected images", anchor="middle"))
        return "\n".join(drawn)


def plot(result: Json) -> str:
    """Return the SVG of a result.

    Raises:
        InputError: it holds no order.
    """
    orders = played(result)
    rows = {order: [result["before"][order], *result[order]] for order in orders}
    ticks = sorted({row["images"] for order in orders for row in rows[order]})
    values = [row[key] for order in orders for row in rows[order] for key, _, _ in _LINES]
    work = [row["pixels_per_image"] for order in orders for row in result[order]]
    quality = _Panel(60, 400, ticks[-1], _round_up(max(values)))
    pixels = _Panel(500, 840, ticks[-1], _round_up(max(work) / 1000))
    parts = [
        quality.axes("Quality on photographs never trained on", ticks, ""),
        pixels.axes("Pixels a person changes in an image", ticks[1:], "k"),
        _legend(orders),
    ]
    for order in orders:
        color = _COLORS[order]
        for key, _, dashes in _LINES:
            points = [
                (row["images"], row[key], row["promoted"] is not False) for row in rows[order]
            ]
            parts.append(quality.line(points, color, dashes))
        points = [(row["images"], row["pixels_per_image"] / 1000, True) for row in result[order]]
        parts.append(pixels.line(points, color, ""))
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>\n{body}\n</svg>\n'
    )


def _legend(orders: Sequence[OrderName]) -> str:
    drawn, x = [], 60.0
    entries = [(_NAMES[order], _COLORS[order], "") for order in orders]
    entries += [(name, "#444444", dashes) for _, name, dashes in _LINES]
    for name, color, dashes in entries:
        drawn.append(
            f'<line x1="{x:.0f}" y1="24" x2="{x + 28:.0f}" y2="24" stroke="{color}" '
            f'stroke-width="2" stroke-dasharray="{dashes}"/>'
        )
        drawn.append(_text(x + 34, 28, name))
        x += 60 + 7 * len(name)
    drawn.append(_text(x, 28, "hollow: not promoted"))
    return "\n".join(drawn)


def _round_up(value: float) -> float:
    """Return the next larger one of 1, 2, 5, 10, … tenths: the axis' ticks are then short."""
    if value <= 0:
        return 1.0
    step = 10.0 ** math.floor(math.log10(value))
    return next(step * part for part in (1, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10) if step * part >= value)


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" '
        f'fill="#222222">{text}</text>'
    )


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#d4d4d4" '
        'stroke-width="1"/>'
    )
