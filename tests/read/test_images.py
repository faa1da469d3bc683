"""Decoding: what the browser shows, and a reason for what cannot be labeled."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from workers.read.config import ClipViewSettings
from workers.read.errors import ImageError
from workers.read.images import clip_view, decode, sam_size, sam_view

LIMIT = 1_000_000
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM"]


def picture(width: int = 64, height: int = 48) -> Image.Image:
    """A smooth picture that differs from all its turned and mirrored versions."""
    x, y = np.meshgrid(np.linspace(0, 250, width), np.linspace(0, 250, height))
    return Image.fromarray(np.stack([x, y, 255 - x * y / 250], axis=2).astype(np.uint8))


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def worst(first: np.ndarray, second: np.ndarray) -> int:
    return int(np.abs(first.astype(int) - second.astype(int)).max())


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_what_a_browser_shows(image_format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(picture(), image_format, exif=exif)
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert decode(data, LIMIT).shape == (shown.height, shown.width, 3)
    assert worst(decode(data, LIMIT), np.asarray(shown)) <= 1


def test_browsers_do_not_turn_webp_and_neither_do_we() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture(), "WEBP", exif=exif, lossless=True)
    assert worst(decode(data, LIMIT), np.asarray(picture())) == 0


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA"])
def test_every_pixel_type_becomes_rgb(mode: str) -> None:
    image = picture().convert(mode)
    assert worst(decode(encoded(image, "PNG"), LIMIT), np.asarray(image.convert("RGB"))) == 0


def test_sixteen_bits_become_eight() -> None:
    gray = np.asarray(picture().convert("L"))
    data = encoded(Image.fromarray(gray.astype(np.uint16) * 257), "PNG")
    assert worst(decode(data, LIMIT)[..., 0], gray) == 0


def test_cmyk_keeps_its_colors() -> None:
    data = encoded(picture().convert("CMYK"), "JPEG", quality=100)
    assert worst(decode(data, LIMIT), np.asarray(picture())) <= 4


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(image_format: str) -> None:
    turned = picture().transpose(Image.Transpose.ROTATE_180)
    options = {} if image_format == "GIF" else {"lossless": True}
    data = encoded(picture(), image_format, save_all=True, append_images=[turned], **options)
    assert worst(decode(data, LIMIT), np.asarray(picture())) <= 24


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_truncated_files_are_refused(image_format: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), image_format)
    assert decode(data, LIMIT).shape == (90, 70, 3)
    with pytest.raises(ImageError, match=r"truncated|cut off|damaged"):
        decode(data[: int(share * len(data))], LIMIT)


def test_a_thumbnails_end_does_not_hide_that_a_jpeg_is_truncated() -> None:
    data = encoded(picture(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0" + b"\xff\xd9")
    assert decode(data, LIMIT).shape == (48, 64, 3)
    with pytest.raises(ImageError, match="no end marker"):
        decode(data[:-40] + bytes(40), LIMIT)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"hello, world", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"P6\n0 4\n255\n", "without pixels"),
        (encoded(picture().convert("L").convert("F"), "TIFF"), "pixel type F"),
    ],
)
def test_what_is_no_image_says_so(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        decode(data, LIMIT)


def test_the_pixel_limit_is_read_from_the_header() -> None:
    with pytest.raises(ImageError, match="10000 x 10000 pixels, more than the limit"):
        decode(b"P6\n10000 10000\n255\n", LIMIT)
    with pytest.raises(ImageError, match="too many pixels"):
        decode(b"P6\n100000 100000\n255\n", LIMIT)
    with pytest.raises(
        ImageError, match=r"64 x 48 pixels, more than the limit of 3071; reduce it$"
    ):
        decode(encoded(picture(), "PNG"), 3071)
    assert decode(encoded(picture(), "PNG"), 3072).shape == (48, 64, 3)


def test_views_of_every_recorded_image_equal_the_originals(shared: Path) -> None:
    root = shared / "goldens" / "read"
    files = json.loads((root / "manifest.json").read_text())["files"]
    for name in (name for name, file in files.items() if file["kind"].startswith("preprocess")):
        image = decode((root / "goldens" / files[name]["image"]).read_bytes(), 10**8)
        sam, sam_hw = sam_view(image, 1024)
        with np.load(root / "goldens" / name) as recorded:
            clip = clip_view(image, ClipViewSettings())
            assert np.abs(clip[:, ::4, ::4] - recorded["clip_pixel_values_s4"]).max() < 1e-5
            assert np.abs(sam[:, ::16, ::16] - recorded["sam_input_s16"]).max() < 1e-5
            assert sam_hw == tuple(recorded["sam_resized_hw"])


def test_the_clip_view_is_the_central_square() -> None:
    image = np.zeros((30, 90, 3), dtype=np.uint8)
    image[:, 30:60] = 255
    settings = ClipViewSettings(shortest_side=30, crop=30, mean=(0, 0, 0), std=(1, 1, 1))
    assert np.array_equal(clip_view(image, settings), np.ones((3, 30, 30), dtype=np.float32))


@pytest.mark.parametrize("shape", [(1, 50_000), (50_000, 1), (1, 1)])
def test_extreme_shapes_have_both_views(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 128, dtype=np.uint8)
    assert clip_view(image, ClipViewSettings()).shape == (3, 336, 336)
    assert sam_view(image, 256)[0].shape == (3, 256, 256)


def test_the_sam_view_is_padded_right_and_below() -> None:
    view, used = sam_view(np.full((20, 40, 3), 255, dtype=np.uint8), 64)
    assert used == sam_size((20, 40), 64) == (32, 64)
    assert (view[:, :32] > 2).all()
    assert (view[:, 32:] == 0).all()
