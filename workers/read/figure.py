"""The figure of an explanation: six panels a ``[SEG]``, side by side, ready to print."""

import io
import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from workers.read.drawing import (
    BLACK,
    GAP,
    MASK_COLORS,
    WHITE,
    Font,
    central_square,
    draw_points,
    resized,
    scale_bar,
    stacked,
    with_map,
    with_mask,
)
from workers.read.explain import Explanation, SegInside, agreement

COLUMNS = 3
MAPS = (1, 2)
"""Panels that show a map, and get a scale."""

FONT_SHARE = 0.036  # of the figure's panel width
DPI = 300
CAPTIONS = (
    "image",
    "similarity to [SEG], language model",
    "similarity to [SEG], SAM's decoder",
    "points",
    "mask with points",
    "mask without points",
)


def figure(image: np.ndarray, query: str, explanation: Explanation) -> bytes:
    """Draw an explanation of uint8 RGB (H, W, 3); returns a PNG."""
    picture = resized(image)
    scale = picture.shape[1] / image.shape[1]
    font = ImageFont.load_default(max(14.0, FONT_SHARE * picture.shape[1]))
    parts = []
    for inside in explanation.segments:
        pairs = zip(_panels(picture, inside, scale), _captions(inside), strict=True)
        cells = [
            _captioned(panel, caption, font, scaled=index in MAPS)
            for index, (panel, caption) in enumerate(pairs)
        ]
        parts.append(_grid(cells))
    if not parts:
        parts.append(_captioned(Image.fromarray(picture), "no [SEG]: not in this image", font))
    width = max(part.width for part in parts)
    title = _text([f"query: {query}", f"answer: {explanation.text}"], width, font)
    buffer = io.BytesIO()
    drawn = ImageOps.expand(stacked([title, *parts]), border=2 * GAP, fill=WHITE)
    drawn.save(buffer, "PNG", dpi=(DPI, DPI))
    return buffer.getvalue()


def _panels(picture: np.ndarray, inside: SegInside, scale: float) -> list[Image.Image]:
    height, width = picture.shape[:2]
    pointed = Image.fromarray(picture)
    draw_points(ImageDraw.Draw(pointed), inside.points_xy, inside.point_labels, scale)
    arrays = [
        picture,
        with_map(picture, inside.language_map, central_square(picture)),
        with_map(picture, inside.decoder_map, (0, 0, width, height)),
        np.array(pointed),
        with_mask(picture, inside.with_points, MASK_COLORS[0]),
        with_mask(picture, inside.without_points, MASK_COLORS[1]),
    ]
    return [Image.fromarray(array) for array in arrays]


def _captions(inside: SegInside) -> list[str]:
    """Letters, names, and the numbers that belong to them."""
    numbers = agreement(inside)
    told = (
        "",
        f": IoU at 0.5 with the mask {_number(numbers.language_iou)}",
        f": IoU at 0.5 {_number(numbers.decoder_iou)}, Spearman with (b) "
        f"{_number(numbers.spearman)}",
        f": {_count(inside, 1)} positive, {_count(inside, 0)} negative, "
        f"{_count(inside, -1)} neutral",
        f": {inside.with_points.mean():.1%} of the image",
        f": {inside.without_points.mean():.1%}, IoU with (e) {_number(numbers.sasp_iou)}",
    )
    return [
        f"({letter}) {caption}{more}"
        for letter, caption, more in zip("abcdef", CAPTIONS, told, strict=True)
    ]


def _count(inside: SegInside, label: int) -> int:
    return int(np.count_nonzero(inside.point_labels == label))


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"


def _captioned(
    panel: Image.Image, caption: str, font: Font, *, scaled: bool = False
) -> Image.Image:
    bar = [scale_bar(panel.width, font)] if scaled else []
    return stacked([panel, *bar, _text([caption], panel.width, font, lines=2)])


def _text(paragraphs: Sequence[str], width: int, font: Font, lines: int = 0) -> Image.Image:
    """Wrapped text; ``lines`` is its least height, so that captions of a row are of one height."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    columns = max(8, int(width * len(letters) / font.getlength(letters)))
    wrapped = [line for text in paragraphs for line in textwrap.wrap(text, columns)]
    step = round(1.35 * font.getbbox("Åg")[3])
    strip = Image.new("RGB", (width, step * max(lines, len(wrapped)) + GAP), WHITE)
    draw = ImageDraw.Draw(strip)
    for index, line in enumerate(wrapped):
        draw.text((GAP // 2, index * step), line, BLACK, font)
    return strip


def _grid(cells: Sequence[Image.Image]) -> Image.Image:
    width, height = cells[0].width + GAP, max(cell.height for cell in cells) + GAP
    rows = -(-len(cells) // COLUMNS)
    canvas = Image.new("RGB", (COLUMNS * width - GAP, rows * height), WHITE)
    for index, cell in enumerate(cells):
        canvas.paste(cell, (index % COLUMNS * width, index // COLUMNS * height))
    return canvas
