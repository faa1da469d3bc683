"""How masks, points and maps are drawn over a picture: the same in every figure."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from workers.read.sasp import NEGATIVE, NEUTRAL, POSITIVE

Color = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Box = tuple[int, int, int, int]

PANEL_SIDES = (640, 1280)
"""Bounds in pixels of a panel's longest side: small images are enlarged, large ones reduced."""

GAP = 8
MASK_COLORS: tuple[Color, ...] = ((0, 114, 255), (255, 140, 0), (170, 60, 220), (0, 170, 170))
POINT_STYLES: dict[int, tuple[str, Color]] = {
    POSITIVE: ("positive", (0, 160, 60)),
    NEGATIVE: ("negative", (220, 30, 40)),
    NEUTRAL: ("neutral", (120, 120, 120)),
}
MASK_OPACITY = 0.45
MAP_OPACITY = 0.6
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def resized(image: np.ndarray) -> np.ndarray:
    """Bring uint8 RGB (H, W, 3) to a size that is good to look at."""
    longest = max(image.shape[:2])
    scale = min(max(longest, PANEL_SIDES[0]), PANEL_SIDES[1]) / longest
    height, width = (max(1, round(length * scale)) for length in image.shape[:2])
    method = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.BOX
    return np.array(Image.fromarray(image).resize((width, height), method))


def with_mask(picture: np.ndarray, mask: np.ndarray, color: Color) -> np.ndarray:
    """Tint the mask and draw its outline, white below so that it shows on any ground."""
    height, width = picture.shape[:2]
    resized = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    tinted = picture * (1 - MASK_OPACITY) + np.array(color) * MASK_OPACITY
    panel = np.where(resized[..., None] > 0, tinted, picture).astype(np.uint8)
    outlines, _ = cv2.findContours(resized, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(panel, outlines, -1, WHITE, 4)
    cv2.drawContours(panel, outlines, -1, color, 2)
    return panel


def central_square(picture: np.ndarray) -> Box:
    """Left, top, right and bottom of the square that the language model sees."""
    height, width = picture.shape[:2]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def with_map(picture: np.ndarray, values: np.ndarray, box: Box) -> np.ndarray:
    """Lay a map (h, w) in colors over a box of the picture in gray, frame it, outline its half.

    The outline is where the map, normalized to [0, 1], is 0.5.
    """
    left, top, right, bottom = box
    size = (right - left, bottom - top)
    colors = cv2.resize(heat(values), size, interpolation=cv2.INTER_LINEAR)
    gray = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2)
    panel = gray.copy()
    area = np.s_[top:bottom, left:right]
    panel[area] = gray[area] * (1 - MAP_OPACITY) + colors * MAP_OPACITY
    drawn = np.ascontiguousarray(panel.astype(np.uint8))
    fine = cv2.resize(values.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    half = (fine >= (fine.min() + fine.max()) / 2).astype(np.uint8)
    outlines, _ = cv2.findContours(half, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, outlines, -1, BLACK, 3, offset=(left, top))
    cv2.drawContours(drawn, outlines, -1, WHITE, 1, offset=(left, top))
    cv2.rectangle(drawn, (left, top), (right - 1, bottom - 1), WHITE, 1)
    return drawn


def scale_bar(width: int, font: Font) -> Image.Image:
    """The colors of a map from its lowest value to its highest, with the outline's 0.5 marked."""
    height = round(1.35 * font.getbbox("Åg")[3])
    bar = Image.new("RGB", (width, height), WHITE)
    text = ("lowest", "0.5", "highest")
    start, end = (round(font.getlength(text[i])) + GAP for i in (0, 2))
    colors = heat(np.linspace(0, 1, max(2, width - start - end - GAP))[None])
    bar.paste(Image.fromarray(colors).resize((colors.shape[1], height // 2)), (start, height // 4))
    draw = ImageDraw.Draw(bar)
    middle = start + colors.shape[1] // 2
    draw.line((middle, height // 4, middle, 3 * height // 4), fill=WHITE, width=3)
    draw.text((GAP // 2, 0), text[0], BLACK, font)
    draw.text((width - end + GAP // 2, 0), text[2], BLACK, font)
    return bar


def heat(values: np.ndarray) -> np.ndarray:
    """Colors uint8 (S, S, 3) of a map, dark for its lowest and bright for its highest value."""
    finite = np.nan_to_num(values.astype(np.float64))
    span = np.ptp(finite) or 1.0
    levels = np.rint(255 * (finite - finite.min()) / span).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def draw_points(
    draw: ImageDraw.ImageDraw, xy: np.ndarray, labels: np.ndarray, scale: float
) -> None:
    """Draw points (N, 2) of the image, ``scale`` times as large, positive ones last, on top."""
    for index in np.argsort(labels == POSITIVE, kind="stable"):
        x, y = (xy[index] + 0.5) * scale
        draw_point(draw, float(x), float(y), int(labels[index]))


def draw_point(draw: ImageDraw.ImageDraw, x: float, y: float, label: int) -> None:
    """A disk with a plus, a minus or nothing in it, so that colors are not needed to tell."""
    radius = 4 if label == NEUTRAL else 7
    color = POINT_STYLES[label][1]
    disk = (x - radius, y - radius, x + radius, y + radius)
    draw.ellipse(disk, fill=color, outline=WHITE, width=1)
    if label != NEUTRAL:
        draw.line((x - 4, y, x + 4, y), fill=WHITE, width=2)
    if label == POSITIVE:
        draw.line((x, y - 4, x, y + 4), fill=WHITE, width=2)


def stacked(parts: Sequence[Image.Image]) -> Image.Image:
    """Put parts under each other, left-aligned."""
    height = sum(part.height for part in parts) + GAP * (len(parts) - 1)
    canvas = Image.new("RGB", (max(part.width for part in parts), height), WHITE)
    y = 0
    for part in parts:
        canvas.paste(part, (0, y))
        y += part.height + GAP
    return canvas
