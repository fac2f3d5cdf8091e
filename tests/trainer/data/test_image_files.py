"""Pictures of every kind and shape: an image or one sentence, in bounded memory."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from drun.errors import DataError
from dtrain.data import image_files
from dtrain.data.image_files import decode, fit, open_stack, read_images

Pixels = NDArray[np.uint8]


def noise(*shape: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def flat(height: int, width: int, colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def test_fit_crops_the_centre() -> None:
    pixels = np.zeros((8, 24, 3), np.uint8)
    pixels[:, 8:16] = noise(8, 8, 3)
    assert np.array_equal(fit(Image.fromarray(pixels), 8, 3), noise(8, 8, 3))
    assert np.array_equal(fit(Image.fromarray(pixels.swapaxes(0, 1)), 8, 3), noise(8, 8, 3).swapaxes(0, 1))


def test_fit_halves_by_block_means() -> None:
    pixels = noise(32, 32)
    means = pixels.reshape(16, 2, 16, 2).mean(axis=(1, 3)).reshape(8, 2, 8, 2).mean(axis=(1, 3))
    assert np.abs(fit(Image.fromarray(pixels), 8, 1)[..., 0] - means).max() <= 2  # Pillow rounds each pass


@pytest.mark.parametrize(("height", "width"), [(5, 9), (31, 17), (8, 100), (15, 16), (301, 33)])
def test_fit_gives_the_asked_size(height: int, width: int) -> None:
    assert fit(flat(height, width, (9, 9, 9)), 8, 3).shape == (8, 8, 3)


# ---- shapes -----------------------------------------------------------------------------------------------


def halved(image: Image.Image, image_size: int) -> Image.Image:
    while min(image.size) >= 2 * image_size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    return image


def whole(image: Image.Image, image_size: int) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """The size of the whole picture, and the box of its centre."""
    scale = image_size / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    left, top = (width - image_size) // 2, (height - image_size) // 2
    return (width, height), (left, top, left + image_size, top + image_size)


def test_ordinary_shapes_are_resized_whole_and_cropped_then() -> None:
    """Dhariwal & Nichol's formula, bit for bit, for sides of up to four to one."""
    rng = np.random.default_rng(0)
    for _ in range(400):
        short, size = int(rng.integers(1, 80)), int(rng.choice([1, 2, 7, 8, 16, 33]))
        sides = (short, int(short * rng.uniform(1, 4)))
        height, width = sides if rng.random() < 0.5 else sides[::-1]
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        half = halved(image, size)
        scaled, box = whole(half, size)
        expected = np.asarray(half.resize(scaled, Image.Resampling.BICUBIC).crop(box))
        assert np.array_equal(fit(image, size, 3), expected), (image.size, size)


def test_of_extreme_shapes_the_centre_is_resized() -> None:
    """As the whole picture would be, in either order of the axes, up to roundings."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        short, size = int(rng.integers(1, 30)), int(rng.choice([2, 7, 8, 16, 33]))
        sides = (short, int(short * rng.uniform(4.2, 40)) + 1)
        height, width = sides if rng.random() < 0.5 else sides[::-1]
        image = Image.fromarray(rng.integers(0, 256, (height, width), dtype=np.uint8))
        half = halved(image, size)
        scaled, box = whole(half, size)
        orders = [(scaled[0], half.height), (half.width, scaled[1])]
        cubic = Image.Resampling.BICUBIC
        both = [half.resize(first, cubic).resize(scaled, cubic) for first in orders]
        got = fit(image, size, 1)[..., 0].astype(int)
        assert min(np.abs(np.asarray(each.crop(box)) - got).max() for each in both) <= 2, (image.size, size)


@pytest.mark.parametrize(("width", "height"), [(1, 100_000), (30_000, 10), (1_000_000, 1)])
def test_a_line_of_pixels_takes_little_memory(width: int, height: int, tmp_path: Path) -> None:
    """Enlarged to 256 pixels it would be a picture of up to 65 gigapixels. In a process of its own: peaks stay."""
    code = f"""
import resource
from pathlib import Path
from dtrain.data.image_files import fit, read_images
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
(image,) = read_images(Path({str(tmp_path / "x.png")!r}))
assert fit(image, 256, 3).shape == (256, 256, 3)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    Image.new("L", (width, height)).save(tmp_path / "x.png")
    grown_kb = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert grown_kb < 60_000


# ---- kinds ------------------------------------------------------------------------------------------------


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(content: bytes, max_pixels: int = image_files.MAX_PIXELS) -> Image.Image:
    return decode(lambda: io.BytesIO(content), "x", max_pixels)


def palette(**options: Any) -> bytes:
    image = Image.fromarray(noise(9, 9) % 4).convert("P")
    image.putpalette([200, 10, 10] * 256)
    return encoded(image, "PNG", **options)


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return encoded(flat(9, 7, (200, 10, 10)), "JPEG", exif=tags, quality=100)


RED = flat(9, 7, (200, 10, 10))
KINDS = {
    "cmyk jpeg": encoded(RED.convert("CMYK"), "JPEG", quality=100), "cmyk tiff": encoded(RED.convert("CMYK"), "TIFF"),
    "palette": palette(), "palette with a clear colour": palette(transparency=2),
    "palette with an alpha of each": palette(transparency=bytes([255, 128, 0, 7])),
    "rgba": encoded(RED.convert("RGBA"), "PNG"), "clear colour": encoded(RED, "PNG", transparency=(1, 2, 3)),
    "many frames png": encoded(RED, "PNG", save_all=True, append_images=[flat(9, 7, (0, 0, 0))] * 3),
    "many frames tiff": encoded(RED, "TIFF", save_all=True, append_images=[flat(9, 7, (0, 0, 0))] * 3),
    "many frames webp": encoded(RED, "WEBP", save_all=True, append_images=[flat(9, 7, (0, 0, 0))] * 3, lossless=True),
    "mpo": encoded(RED, "MPO", save_all=True, append_images=[RED], quality=100), "upright": exif(1), "turned": exif(6),
    "lzw tiff": encoded(RED, "TIFF", compression="tiff_lzw"), "jpeg tiff": encoded(RED, "TIFF", compression="jpeg"),
    "bmp": encoded(RED, "BMP"), "ycbcr": encoded(RED.convert("YCbCr"), "TIFF"),
    "big tiff": encoded(RED, "TIFF", big_tiff=True),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_colour(kind: str) -> None:
    image = decoded(KINDS[kind])
    assert image.mode == "RGB"
    assert image.size == {"turned": (9, 7), "upright": (7, 9)}.get(kind, image.size)
    assert np.abs(np.asarray(image).astype(int) - (200, 10, 10)).max() <= 12


def test_kinds_of_grey() -> None:
    levels = noise(9, 9).astype(np.uint16) * 257
    assert np.array_equal(np.asarray(decoded(encoded(Image.fromarray(levels), "PNG"))), levels >> 8)
    assert np.array_equal(np.asarray(decoded(encoded(Image.fromarray(levels), "TIFF"))), levels >> 8)
    for mode in ("1", "L", "LA"):
        assert decoded(encoded(Image.new(mode, (5, 6)), "PNG")).mode == "L"
    for mode in ("I", "F"):
        with pytest.raises(DataError, match="got 32-bit values"):
            decoded(encoded(Image.new(mode, (5, 6)), "TIFF"))


OTHERS = {
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>', "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "gif": encoded(RED.convert("P"), "GIF"), "ppm": encoded(RED, "PPM"), "nothing": b"", "ico": encoded(RED, "ICO"),
    "wmf": b"\xd7\xcd\xc6\x9a" + bytes(60), "pdf": b"%PDF-1.4", "text": b"hello", "zeros": bytes(1000),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_other_formats_are_one_sentence(kind: str) -> None:
    message = r"^cannot decode image 'x': unknown format, expected PNG, JPEG, TIFF, WebP or BMP; repair or remove it$"
    with pytest.raises(DataError, match=message):
        decoded(OTHERS[kind])


def test_an_eps_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.png").write_bytes(OTHERS["eps"])
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **options: pytest.fail("a program was started"))
    with pytest.raises(DataError, match=r"x\.png': unknown format"):
        next(read_images(tmp_path / "x.png"))


def with_size(content: bytes, width: int, height: int) -> bytes:
    """A PNG that claims another size."""
    head = content[12:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + content[24:29]
    return content[:12] + head + zlib.crc32(head).to_bytes(4, "big") + content[33:]


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (50_000, 50_000), (2_000_000_000, 1), (14_000, 14_000)])
def test_sizes_that_lie(width: int, height: int) -> None:
    with pytest.raises(DataError, match=r"^(cannot decode )?image 'x'"):
        decoded(with_size(encoded(RED, "PNG"), width, height))


def test_a_small_file_does_not_become_a_large_picture() -> None:
    content = encoded(Image.new("1", (5000, 5000)), "TIFF", compression="group4")
    with pytest.raises(DataError, match=r"its [\d,]+ bytes would decode to 5000x5000 pixels; repair or remove it"):
        decoded(content)
    assert decoded(encoded(Image.new("L", (5000, 5000)), "PNG")).size == (5000, 5000)


def test_a_bomb_is_sent_to_tiles() -> None:
    for kind in ("PNG", "TIFF", "WEBP", "BMP", "JPEG"):
        with pytest.raises(DataError, match=r"^image 'x' has 9x9 pixels, expected at most 80: cut it with"):
            decoded(encoded(flat(9, 9, (1, 2, 3)), kind), max_pixels=80)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    os.mkfifo(tmp_path / "x.npy")
    with pytest.raises(DataError, match="it is a pipe or a device, expected a file"):
        next(read_images(tmp_path / "x.png"))
    with pytest.raises(DataError, match="it is a pipe or a device, expected a file"):
        open_stack(tmp_path / "x.npy")


@settings(max_examples=200, deadline=None)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")  # Pillow warns of odd metadata
def test_a_damaged_picture_is_an_image_or_one_sentence(data: st.DataObject) -> None:
    content = bytearray(KINDS[data.draw(st.sampled_from(sorted(KINDS)))])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(DataError):
        assert fit(decoded(bytes(content[: data.draw(st.integers(0, len(content))) or None])), 8, 3).shape == (8, 8, 3)
