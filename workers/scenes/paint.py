"""How scenes look: backgrounds like blurred photographs, lit surfaces, soft shadows.

Everything is drawn from a generator of its own at a small fixed raster and then enlarged, so a
scene looks alike at any size.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (205, 32, 38),
    "orange": (243, 130, 28),
    "yellow": (246, 218, 52),
    "green": (44, 150, 58),
    "blue": (38, 82, 205),
    "purple": (128, 46, 160),
    "pink": (245, 140, 190),
    "brown": (112, 68, 36),
    "white": (246, 246, 244),
    "black": (24, 24, 28),
}
_JITTER = 10.0  # standard deviation of a color's channels, of 255
_GROUNDS = (
    (150, 165, 180),
    (172, 158, 132),
    (128, 144, 112),
    (150, 132, 115),
    (140, 140, 142),
    (178, 172, 164),
    (112, 128, 140),
    (160, 146, 158),
)
_RASTER = 96


def background(rng: np.random.Generator, size: tuple[int, int], texture: float) -> Picture:
    """Return a background, float32 (H, W, 3) in [0, 255], of one of four kinds."""
    height, width = size
    base, other = (
        np.array(_GROUNDS[int(index)], dtype=np.float32)
        for index in rng.choice(len(_GROUNDS), size=2, replace=False)
    )
    kind = int(rng.integers(4))
    blend = (_gradient, _horizon, _planks, _blobs)[kind](rng)
    field = cv2.resize(blend, (width, height), interpolation=cv2.INTER_CUBIC)[:, :, None]
    picture = base + (other - base) * np.clip(field, 0, 1)
    grain = sum(_noise(rng, cells, size) / (2**step) for step, cells in enumerate((5, 12, 30, 70)))
    tint = rng.normal(0, 0.25, size=3).astype(np.float32) + 1.0
    light = rng.uniform(0.85, 1.12)
    shift = np.float32(26.0 * texture) * grain[:, :, None] * tint
    return np.asarray(picture * np.float32(light) + shift, np.float32)


def _gradient(rng: np.random.Generator) -> NDArray[np.float32]:
    y, x = np.mgrid[0 : 1 : _RASTER * 1j, 0 : 1 : _RASTER * 1j]
    turn = rng.uniform(0, 2 * np.pi)
    return np.asarray(0.5 + (x - 0.5) * np.cos(turn) + (y - 0.5) * np.sin(turn), np.float32)


def _horizon(rng: np.random.Generator) -> NDArray[np.float32]:
    y, x = np.mgrid[0 : 1 : _RASTER * 1j, 0 : 1 : _RASTER * 1j]
    line = rng.uniform(0.25, 0.75) + 0.06 * np.sin(x * rng.uniform(2, 9) + rng.uniform(0, 6))
    return np.asarray(1 / (1 + np.exp(-(y - line) * rng.uniform(15, 60))), np.float32)


def _planks(rng: np.random.Generator) -> NDArray[np.float32]:
    y, x = np.mgrid[0 : 1 : _RASTER * 1j, 0 : 1 : _RASTER * 1j]
    turn = rng.uniform(0, np.pi)
    across = x * np.cos(turn) + y * np.sin(turn)
    waves = np.sin(across * rng.uniform(12, 45) + 0.8 * np.sin(5 * x + 3 * y))
    return np.asarray(0.4 + 0.3 * waves, np.float32)


def _blobs(rng: np.random.Generator) -> NDArray[np.float32]:
    field = np.zeros((_RASTER, _RASTER), np.float32)
    for _ in range(int(rng.integers(6, 16))):
        x, y = rng.integers(0, _RASTER, size=2)
        light = float(rng.uniform(0.3, 1.0))
        cv2.circle(field, (int(x), int(y)), int(rng.integers(5, 22)), light, -1)
    return np.asarray(cv2.GaussianBlur(field, (0, 0), float(rng.uniform(2, 7))), np.float32)


def _noise(rng: np.random.Generator, cells: int, size: tuple[int, int]) -> NDArray[np.float32]:
    grid = rng.normal(0, 1, size=(cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(grid, size[::-1], interpolation=cv2.INTER_CUBIC), np.float32)


def add_object(
    rng: np.random.Generator,
    picture: Picture,
    cover: NDArray[np.float32],
    color: str,
    texture: float,
) -> Picture:
    """Return the picture with one more object in front: its shadow, then its lit surface.

    ``cover`` is float32 (H, W) in [0, 1]; ``texture`` as in :func:`background`.
    """
    unit = min(cover.shape)
    blur, shift = max(0.6, unit * 0.02), round(unit * 0.015)
    window = _window(cover, margin=shift + 3 * round(blur) + 2)
    part, alpha = picture[window], cover[window]
    size = (alpha.shape[0], alpha.shape[1])
    soft = cv2.GaussianBlur(alpha, (0, 0), blur)
    shadow = np.roll(soft, (shift, shift), axis=(0, 1))
    part = part * (1 - 0.35 * shadow[:, :, None])
    base = np.array(COLORS[color], np.float32) + rng.normal(0, _JITTER, 3).astype(np.float32)
    shade = 1 + 0.10 * (cv2.resize(_gradient(rng), size[::-1]) - 0.5)
    surface = base * shade[:, :, None] + 9.0 * texture * _noise(rng, 12, size)[:, :, None]
    result = picture.copy()
    result[window] = part * (1 - alpha[:, :, None]) + surface * alpha[:, :, None]
    return result


def _window(cover: NDArray[np.float32], margin: int) -> tuple[slice, slice]:
    """Return the part of the picture that holds an object, and ``margin`` pixels around it."""
    rows, columns = (np.flatnonzero(cover.any(axis=axis)) for axis in (1, 0))
    return (
        slice(max(0, int(rows[0]) - margin), int(rows[-1]) + margin + 1),
        slice(max(0, int(columns[0]) - margin), int(columns[-1]) + margin + 1),
    )


def finish(rng: np.random.Generator, picture: Picture, texture: float) -> NDArray[np.uint8]:
    """Return the picture as uint8 (H, W, 3), with a lens' dark corners and a sensor's noise."""
    height, width = picture.shape[:2]
    y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in (height, width))
    corners = 1 - np.float32(0.12 * texture) * (y[:, None] ** 2 + x[None, :] ** 2)
    noise = rng.standard_normal((height, width), dtype=np.float32) * np.float32(3.0 * texture)
    result = cv2.add(picture * corners[:, :, None], noise[:, :, None].repeat(3, axis=2))
    return np.clip(np.rint(result), 0, 255).astype(np.uint8)
