"""An answer as a picture for people: masks, points and similarity over the image, with a legend."""

import io
import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from workers.read.drawing import (
    BLACK,
    GAP,
    MASK_COLORS,
    POINT_STYLES,
    WHITE,
    Font,
    central_square,
    draw_point,
    draw_points,
    heat,
    resized,
    stacked,
    with_map,
    with_mask,
)
from workers.read.engine import Answer, Segment

LEAST_WIDTH = 640
WIDE = 1.3  # panels of images wider than this stand under each other
FONT_SIZE = 16
LINE = 24
CHARACTER = 8.5


def overlay(image: np.ndarray, query: str, answer: Answer) -> bytes:
    """Draw an answer over uint8 RGB (H, W, 3); returns a PNG.

    The first panel shows every mask with its points, one more panel for each ``[SEG]`` its
    similarity map, laid over the central square that the language model sees.
    """
    picture = resized(image)
    scale = picture.shape[1] / image.shape[1]
    panels = [_mask_panel(picture, answer.segments, scale)]
    panels += [_similarity_panel(picture, segment, scale) for segment in answer.segments]
    canvas = _arranged(panels)
    buffer = io.BytesIO()
    stacked([canvas, _legend(max(canvas.width, LEAST_WIDTH), query, answer)]).save(buffer, "PNG")
    return buffer.getvalue()


def _mask_panel(picture: np.ndarray, segments: Sequence[Segment], scale: float) -> Image.Image:
    panel = picture
    for index, segment in enumerate(segments):
        panel = with_mask(panel, segment.mask, MASK_COLORS[index % len(MASK_COLORS)])
    drawn = Image.fromarray(panel)
    for segment in segments:
        draw_points(ImageDraw.Draw(drawn), segment.points_xy, segment.point_labels, scale)
    return drawn


def _similarity_panel(picture: np.ndarray, segment: Segment, scale: float) -> Image.Image:
    drawn = Image.fromarray(with_map(picture, segment.similarity, central_square(picture)))
    draw_points(ImageDraw.Draw(drawn), segment.points_xy, segment.point_labels, scale)
    return drawn


def _legend(width: int, query: str, answer: Answer) -> Image.Image:
    """Query, answer, one line a mask, and what the signs mean."""
    columns = int((width - 2 * GAP) / CHARACTER)
    lines = textwrap.wrap(f"query: {query}", columns, max_lines=3)
    lines += textwrap.wrap(f"answer: {answer.text}", columns, max_lines=3)
    if not answer.present:
        lines.append("not in this image")
    rows = len(lines) + len(answer.segments) + bool(answer.segments)
    legend = Image.new("RGB", (width, rows * LINE + 2 * GAP), WHITE)
    draw = ImageDraw.Draw(legend)
    font = ImageFont.load_default(FONT_SIZE)
    y = GAP
    for line in lines:
        draw.text((GAP, y), line, BLACK, font)
        y += LINE
    for index, segment in enumerate(answer.segments):
        color = MASK_COLORS[index % len(MASK_COLORS)]
        draw.rectangle((GAP, y + 4, GAP + 16, y + 18), fill=color)
        text = (
            f"mask {index + 1}: {segment.mask.mean():.1%} of the image, predicted IoU "
            f"{segment.predicted_iou:.2f}, stability {segment.stability:.2f}"
        )
        draw.text((GAP + 26, y), text, BLACK, font)
        y += LINE
    if answer.segments:
        _draw_signs(legend, y, answer.segments, font)
    return legend


def _draw_signs(legend: Image.Image, y: int, segments: Sequence[Segment], font: Font) -> None:
    """One line: the kinds of points with their numbers, and the scale of the map."""
    draw = ImageDraw.Draw(legend)
    x = GAP
    labels = np.concatenate([segment.point_labels for segment in segments])
    for label, (name, _) in POINT_STYLES.items():
        text = f"{name} {np.count_nonzero(labels == label)}"
        draw_point(draw, x + 8, y + 11, label)
        draw.text((x + 22, y), text, BLACK, font)
        x += 44 + round(draw.textlength(text, font))
    text = "similarity"
    draw.text((x, y), text, BLACK, font)
    x += 8 + round(draw.textlength(text, font))
    ramp = heat(np.linspace(0, 1, 100)[None])
    legend.paste(Image.fromarray(ramp).resize((100, 14)), (x, y + 4))


def _arranged(panels: Sequence[Image.Image]) -> Image.Image:
    """Panels beside each other, or under each other where they are wide."""
    if panels[0].width > WIDE * panels[0].height:
        return stacked(panels)
    width = sum(panel.width for panel in panels) + GAP * (len(panels) - 1)
    canvas = Image.new("RGB", (width, panels[0].height), WHITE)
    x = 0
    for panel in panels:
        canvas.paste(panel, (x, 0))
        x += panel.width + GAP
    return canvas
