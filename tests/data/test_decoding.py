"""Pictures as cameras, printers, scanners and broken downloads leave them."""

import struct
import zlib
from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from llmdiff.data import decoding
from llmdiff.data.decoding import Decoded, upright_size
from llmdiff.data.errors import Kind, PictureError
from llmdiff.data.store import Entry


class Held:
    """One picture in memory."""

    def __init__(self, content: bytes) -> None:
        self.entries = [Entry("it", ("a caption",))]
        self.content = content

    def open(self, index: int) -> BytesIO:
        return BytesIO(self.content)

    def identity(self, index: int) -> str:
        return ""


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def decoded(content: bytes) -> Decoded:
    with decoding.decoded(Held(content), 0) as picture:
        return picture._replace(image=picture.image.copy())


def fault(content: bytes) -> Kind:
    with pytest.raises(PictureError) as caught:
        decoded(content)
    assert str(caught.value).startswith("The picture it ")
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    return caught.value.kind


def noisy(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def png_of(width: int, height: int) -> bytes:
    """A picture that says it is huge, in a few bytes."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    body = [struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", Kind.EMPTY),
        (b"hello", Kind.FOREIGN),
        (b"<html>404</html>", Kind.FOREIGN),
        (bytes(500), Kind.FOREIGN),
        (encoded(noisy())[:-500], Kind.TRUNCATED),
        (encoded(noisy(), "JPEG")[:-300], Kind.TRUNCATED),
        (encoded(noisy(), "WEBP")[:-100], Kind.TRUNCATED),
        (png_of(100_000, 100_000), Kind.BOMB),
        (encoded(noisy(), "GIF", save_all=True, append_images=[noisy("L").convert("RGB")]), Kind.ANIMATED),
        (encoded(noisy(), "PNG", save_all=True, append_images=[noisy("L").convert("RGB")]), Kind.ANIMATED),
        (encoded(noisy(), "WEBP", save_all=True, append_images=[noisy("L").convert("RGB")]), Kind.ANIMATED),
        (encoded(noisy("F"), "TIFF"), Kind.DEPTH),
    ],
)
def test_what_cannot_be_used_is_told_by_kind(content, kind):
    assert fault(content) == kind


@pytest.mark.fault("damaged files")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(90), "a HEIC file .*: save it as PNG"),
        (b"\0\0\0\x18ftypmif1" + bytes(90), "a HEIC file .*: save it as PNG"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(90), "a JPEG XL file, .*: save it as PNG"),
        (b"\xff\n" + bytes(90), "a JPEG XL file, .*: save it as PNG"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", "a git-lfs pointer .*: run `git lfs"),
        (b"\n<!DOCTYPE html><title>404</title>", "a web page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a drawing in SVG"),
    ],
)
def test_what_is_taken_for_a_picture_is_told_with_the_remedy(content, said):
    with pytest.raises(PictureError, match=f"The picture it is .*{said}"):
        decoded(content)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(deadline=None, max_examples=60)
@given(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM"]), st.data())
def test_damaged_content_is_a_picture_or_a_fault(form, data):
    content = bytearray(encoded(noisy(size=(9, 7)), form))
    for place in data.draw(st.lists(st.integers(0, min(len(content), 200) - 1), max_size=4)):
        content[place] ^= data.draw(st.integers(1, 255))
    damaged = bytes(content[: data.draw(st.integers(0, len(content)))])
    with suppress(PictureError):
        decoded(damaged)
    with suppress(PictureError):
        upright_size(Held(damaged), 0)


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGB"])
def test_plain_pictures_need_nothing(mode):
    image = noisy(mode)
    result = decoded(encoded(image))
    assert result.notes == ()
    assert result.image.tobytes() == image.convert("RGB").tobytes()


@pytest.mark.parametrize("width", [16, 72])
@pytest.mark.parametrize("form", ["BMP", "TIFF", "PPM", "PNG"])
def test_a_side_of_sixteen_is_no_depth(form, width):
    """72 pixels are 216 bytes, which Pillow keeps beside the channels' names."""
    assert decoded(encoded(noisy(size=(width, 16)), form)).notes == ()


def test_sixteen_bits_become_eight():
    """Greys as plain numbers would all be white; colours are read by their upper bytes."""
    grey = np.linspace(0, 65535, 40 * 30).astype(np.uint16).reshape(30, 40)
    result = decoded(encoded(Image.fromarray(grey)))
    assert result.notes == (Kind.SIXTEEN_BIT,)
    assert np.array_equal(np.asarray(result.image)[..., 0], (grey / 257).round().astype(np.uint8))
    rows = b"".join(b"\0" + bytes([200, 0, 10, 0, 90, 0]) * 2 for _ in range(2))
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = [struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks]
    colour = decoded(b"\x89PNG\r\n\x1a\n" + b"".join(body))
    assert colour.notes == (Kind.SIXTEEN_BIT,)
    assert colour.image.getpixel((1, 1)) == (200, 10, 90)


@pytest.mark.parametrize("profile", [None, b"no profile", ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))])
def test_cmyk_becomes_rgb(profile):
    """Without a profile, or with one that is not of CMYK, by plain inversion."""
    content = profile if isinstance(profile, bytes | None) else profile.tobytes()
    options = {} if content is None else {"icc_profile": content}
    image = Image.new("RGB", (16, 16), (0, 255, 0)).convert("CMYK")
    result = decoded(encoded(image, "JPEG", quality=100, **options))
    assert result.notes == (Kind.CMYK,)
    assert np.abs(np.asarray(result.image, int) - (0, 255, 0)).max() < 10


def test_what_is_transparent_is_laid_on_white():
    image = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    image.putpixel((1, 1), (200, 0, 0, 255))
    result = decoded(encoded(image))
    assert result.notes == (Kind.TRANSPARENT,)
    assert (result.image.getpixel((0, 0)), result.image.getpixel((1, 1))) == ((255, 255, 255), (200, 0, 0))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_exif_turns_pictures_and_their_sizes(form, orientation):
    wide = Image.new("RGB", (40, 20), (255, 0, 0))
    wide.paste((0, 0, 255), (20, 0, 40, 20))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"quality": 95} if form in ("JPEG", "WEBP") else {}
    content = encoded(wide, form, exif=exif, **options)
    result = decoded(content)
    assert result.notes == ((Kind.TURNED,) if orientation != 1 else ())
    assert upright_size(Held(content), 0) == (result.image.height, result.image.width)
    red_first = np.asarray(result.image, int)[3, 3, 0] > 200
    assert (result.image.size, red_first) == {
        1: ((40, 20), True), 3: ((40, 20), False), 6: ((20, 40), True), 8: ((20, 40), False),
    }[orientation]  # fmt: skip
