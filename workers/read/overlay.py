"""An answer as a picture for people: masks, points and similarity over the image, with a legend."""

import io
import textwrap
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from workers.read.engine import Answer, Segment
from workers.read.sasp import NEGATIVE, NEUTRAL, POSITIVE

Color = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

PANEL_SIDES = (640, 1280)
"""Bounds in pixels of a panel's longest side: small images are enlarged, large ones reduced."""

LEAST_WIDTH = 640
WIDE = 1.3  # panels of images wider than this stand under each other
GAP = 8
FONT_SIZE = 16
LINE = 24
CHARACTER = 8.5
MASK_COLORS: tuple[Color, ...] = ((0, 114, 255), (255, 140, 0), (170, 60, 220), (0, 170, 170))
POINT_STYLES: dict[int, tuple[str, Color]] = {
    POSITIVE: ("positive", (0, 160, 60)),
    NEGATIVE: ("negative", (220, 30, 40)),
    NEUTRAL: ("neutral", (120, 120, 120)),
}
MASK_OPACITY = 0.45
MAP_OPACITY = 0.6
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def overlay(image: np.ndarray, query: str, answer: Answer) -> bytes:
    """Draw an answer over uint8 RGB (H, W, 3); returns a PNG.

    The first panel shows every mask with its points, one more panel for each ``[SEG]`` its
    similarity map, laid over the central square that the language model sees.
    """
    picture = _resized(image)
    scale = picture.shape[1] / image.shape[1]
    panels = [_mask_panel(picture, answer.segments, scale)]
    panels += [_similarity_panel(picture, segment, scale) for segment in answer.segments]
    canvas = _arranged(panels)
    buffer = io.BytesIO()
    _stacked([canvas, _legend(max(canvas.width, LEAST_WIDTH), query, answer)]).save(buffer, "PNG")
    return buffer.getvalue()


def _resized(image: np.ndarray) -> np.ndarray:
    longest = max(image.shape[:2])
    scale = min(max(longest, PANEL_SIDES[0]), PANEL_SIDES[1]) / longest
    height, width = (max(1, round(length * scale)) for length in image.shape[:2])
    method = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.BOX
    return np.array(Image.fromarray(image).resize((width, height), method))


def _mask_panel(picture: np.ndarray, segments: Sequence[Segment], scale: float) -> Image.Image:
    panel = picture
    for index, segment in enumerate(segments):
        panel = _with_mask(panel, segment.mask, MASK_COLORS[index % len(MASK_COLORS)])
    drawn = Image.fromarray(panel)
    for segment in segments:
        _draw_points(ImageDraw.Draw(drawn), segment, scale)
    return drawn


def _with_mask(picture: np.ndarray, mask: np.ndarray, color: Color) -> np.ndarray:
    """Tint the mask and draw its outline, white below so that it shows on any ground."""
    height, width = picture.shape[:2]
    resized = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    tinted = picture * (1 - MASK_OPACITY) + np.array(color) * MASK_OPACITY
    panel = np.where(resized[..., None] > 0, tinted, picture).astype(np.uint8)
    outlines, _ = cv2.findContours(resized, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(panel, outlines, -1, WHITE, 4)
    cv2.drawContours(panel, outlines, -1, color, 2)
    return panel


def _similarity_panel(picture: np.ndarray, segment: Segment, scale: float) -> Image.Image:
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    colors = cv2.resize(_heat(segment.similarity), (side, side), interpolation=cv2.INTER_LINEAR)
    gray = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2)
    panel = gray.copy()
    square = np.s_[top : top + side, left : left + side]
    panel[square] = gray[square] * (1 - MAP_OPACITY) + colors * MAP_OPACITY
    drawn = Image.fromarray(panel.astype(np.uint8))
    frame = (left, top, left + side - 1, top + side - 1)
    ImageDraw.Draw(drawn).rectangle(frame, outline=WHITE)
    _draw_points(ImageDraw.Draw(drawn), segment, scale)
    return drawn


def _heat(values: np.ndarray) -> np.ndarray:
    """Colors uint8 (S, S, 3) of a map, dark for its lowest and bright for its highest value."""
    finite = np.nan_to_num(values.astype(np.float64))
    span = np.ptp(finite) or 1.0
    levels = np.rint(255 * (finite - finite.min()) / span).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def _draw_points(draw: ImageDraw.ImageDraw, segment: Segment, scale: float) -> None:
    """Draw points, the positive ones last so that they lie on top."""
    order = np.argsort(segment.point_labels == POSITIVE, kind="stable")
    for index in order:
        x, y = (segment.points_xy[index] + 0.5) * scale
        _draw_point(draw, float(x), float(y), int(segment.point_labels[index]))


def _draw_point(draw: ImageDraw.ImageDraw, x: float, y: float, label: int) -> None:
    """A disk with a plus, a minus or nothing in it, so that colors are not needed to tell."""
    radius = 4 if label == NEUTRAL else 7
    color = POINT_STYLES[label][1]
    disk = (x - radius, y - radius, x + radius, y + radius)
    draw.ellipse(disk, fill=color, outline=WHITE, width=1)
    if label != NEUTRAL:
        draw.line((x - 4, y, x + 4, y), fill=WHITE, width=2)
    if label == POSITIVE:
        draw.line((x, y - 4, x, y + 4), fill=WHITE, width=2)


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
        _draw_point(draw, x + 8, y + 11, label)
        draw.text((x + 22, y), text, BLACK, font)
        x += 44 + round(draw.textlength(text, font))
    text = "similarity"
    draw.text((x, y), text, BLACK, font)
    x += 8 + round(draw.textlength(text, font))
    ramp = _heat(np.linspace(0, 1, 100)[None])
    legend.paste(Image.fromarray(ramp).resize((100, 14)), (x, y + 4))


def _arranged(panels: Sequence[Image.Image]) -> Image.Image:
    """Panels beside each other, or under each other where they are wide."""
    if panels[0].width > WIDE * panels[0].height:
        return _stacked(panels)
    width = sum(panel.width for panel in panels) + GAP * (len(panels) - 1)
    canvas = Image.new("RGB", (width, panels[0].height), WHITE)
    x = 0
    for panel in panels:
        canvas.paste(panel, (x, 0))
        x += panel.width + GAP
    return canvas


def _stacked(parts: Sequence[Image.Image]) -> Image.Image:
    height = sum(part.height for part in parts) + GAP * (len(parts) - 1)
    canvas = Image.new("RGB", (max(part.width for part in parts), height), WHITE)
    y = 0
    for part in parts:
        canvas.paste(part, (0, y))
        y += part.height + GAP
    return canvas
