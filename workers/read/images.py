"""Bytes to pixels, and pixels to the model's two views of an image.

Pixels are what OpenCV's ``IMREAD_COLOR`` gives: 8-bit, EXIF orientation applied, alpha dropped, 16
bit reduced to 8. That is also how a browser turns an image, so that a mask drawn over it fits:
JPEG and PNG follow EXIF, WebP does not. AVIF keeps its rotation elsewhere, where only Pillow looks.
"""

import io
import warnings

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from workers.read.config import ClipViewSettings
from workers.read.errors import ImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
JPEG_FORMATS = ("JPEG", "MPO")  # MPO: several JPEGs in one file, as phones write them
JPEG_FILL, JPEG_SCAN, JPEG_END = b"\xff", b"\xff\xda", b"\xff\xd9"
EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, RuntimeError)  # what Pillow raises

MAX_ASPECT = 64  # of what is resized for the CLIP view, which shows the central square only

SAM_MEAN = np.array([123.675, 116.28, 103.53], dtype=np.float32)
SAM_STD = np.array([58.395, 57.12, 57.375], dtype=np.float32)


def decode(data: bytes, max_pixels: int) -> np.ndarray:
    """Decode one image to uint8 (H, W, 3) RGB, upright; of an animation the first frame.

    Raises:
        ImageError: ``data`` is empty, truncated, damaged, not an image of a known format, or has
            more than ``max_pixels`` pixels (its header says so: nothing is decoded then).
    """
    if not data:
        raise ImageError("the image file is empty (0 bytes)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = _open(data)
        _check_size(image, max_pixels)
        if image.format in JPEG_FORMATS and not _jpeg_ends(data):
            raise ImageError("the JPEG is truncated: it has no end marker")
        if image.format == "AVIF":
            return _decode_with_pillow(image)
        pixels = _decode_with_opencv(data)
        return _decode_with_pillow(image) if pixels is None else pixels


def clip_view(image: np.ndarray, settings: ClipViewSettings) -> np.ndarray:
    """The vision tower's view of uint8 (H, W, 3): normalized float32 (3, c, c), c = ``crop``.

    Bicubic to ``shortest_side``, then the central square, as CLIP's image processor does.
    """
    image = _without_far_ends(image)
    height, width = image.shape[:2]
    shortest, crop = min(height, width), settings.crop
    size = (settings.shortest_side * width // shortest, settings.shortest_side * height // shortest)
    left, top = ((length - crop) // 2 for length in size)
    resized = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    square = resized.crop((left, top, left + crop, top + crop))
    unit = np.asarray(square, dtype=np.float32) / 255
    mean, std = (np.array(values, dtype=np.float32) for values in (settings.mean, settings.std))
    normalized = (unit - mean) / std
    return np.ascontiguousarray(normalized.transpose(2, 0, 1))


def _without_far_ends(image: np.ndarray) -> np.ndarray:
    """Cut an extremely long image around its center, so that resizing it costs bounded memory."""
    height, width = image.shape[:2]
    longest = MAX_ASPECT * min(height, width)
    top, left = (max(0, (length - longest) // 2) for length in (height, width))
    return image[top : height - top, left : width - left]


def sam_size(image_hw: tuple[int, int], side: int) -> tuple[int, int]:
    """Size (h', w') in pixels of an image whose longest side is resized to ``side``."""
    scale = side / max(image_hw)
    height, width = (max(1, int(length * scale + 0.5)) for length in image_hw)
    return height, width


def sam_view(image: np.ndarray, side: int) -> tuple[np.ndarray, tuple[int, int]]:
    """SAM's view of uint8 (H, W, 3): float32 (3, side, side), and its used part (h', w').

    Bilinear to the longest side, normalized, padded with zeros on the right and at the bottom.
    """
    height, width = sam_size(image.shape[:2], side)
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    view = np.zeros((3, side, side), dtype=np.float32)
    normalized = (np.asarray(resized, dtype=np.float32) - SAM_MEAN) / SAM_STD
    view[:, :height, :width] = normalized.transpose(2, 0, 1)
    return view, (height, width)


def _open(data: bytes) -> Image.Image:
    """Read the header; pixels are decoded later."""
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ImageError(
            "not an image, without pixels, or cut off in its header; "
            f"known formats: {', '.join(FORMATS)}"
        ) from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"the image has too many pixels: {error}") from error
    except DAMAGED as error:
        raise ImageError(f"the image's header is damaged: {error}") from error


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            f"the image has {width} x {height} pixels, more than the limit of {max_pixels}; "
            "reduce it"
        )


def _jpeg_ends(data: bytes) -> bool:
    """Whether an end marker follows the first scan; decoders fill what is cut off with gray.

    Segments before the scan are skipped by their length: a thumbnail in them has its own end.
    """
    position = 2
    while position + 4 <= len(data):
        marker, length = data[position : position + 2], data[position + 2 : position + 4]
        if marker == JPEG_SCAN or not marker.startswith(JPEG_FILL):
            break
        position += 1 if marker == JPEG_FILL * 2 else 2 + int.from_bytes(length)
    return data.find(JPEG_END, position) >= 0


def _decode_with_opencv(data: bytes) -> np.ndarray | None:
    """RGB pixels, or None where OpenCV cannot read the file."""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageError(f"the image cannot be decoded: {error.err or error}") from error
    return None if pixels is None else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _decode_with_pillow(image: Image.Image) -> np.ndarray:
    """RGB pixels of what OpenCV cannot read, or the reason why nothing can."""
    try:
        image.load()
        upright = ImageOps.exif_transpose(image)
    except DAMAGED as error:
        raise ImageError(f"the image is truncated or damaged: {error}") from error
    if upright.mode not in EIGHT_BIT_MODES:
        raise ImageError(f"the image's pixel type {upright.mode} is not supported; save it as RGB")
    return np.array(upright.convert("RGB"))
