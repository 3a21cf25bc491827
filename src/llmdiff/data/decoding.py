"""Encoded pictures made into upright 8-bit RGB, whatever they come as."""

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from llmdiff.data.captioned import Size
from llmdiff.data.errors import Kind, PictureError, kind_of
from llmdiff.data.store import Store
from llmdiff.files import why_not

_ORIENTATION = 0x0112
_TURNED = frozenset(range(2, 9))
_SIXTEEN_BITS = re.compile(";16[BLN]")  # in the names that Pillow has for channels on disk
_ANIMATIONS = ("GIF", "PNG", "WEBP", "AVIF")  # others of several frames are pages, or previews of one photograph
_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError, struct.error, zlib.error,
)  # fmt: skip
"""The errors that Pillow's decoders raise at damaged content."""


class Decoded(NamedTuple):
    """An upright RGB picture, and what had to be done for it to be one."""

    image: Image.Image
    notes: tuple[Kind, ...]


def decode(store: Store, index: int) -> Decoded:
    """Picture number `index` of a store.

    Raises:
        PictureError: It cannot be used; the sentence names it.
    """
    with _opened(store, index) as image:
        _check_still(image, store.entries[index].name)
        notes = tuple(_notes(image))
        upright = ImageOps.exif_transpose(image)
        return Decoded(_rgb(upright), notes)


def upright_size(store: Store, index: int) -> Size:
    """Height and width of picture number `index`, of which only the header is read.

    Raises:
        PictureError: It has none.
    """
    with _opened(store, index) as image:
        return image.size if _is_on_its_side(image) else (image.height, image.width)


@contextmanager
def _opened(store: Store, index: int) -> Iterator[Image.Image]:
    """A picture, within a context in which every error is a `PictureError`."""
    name, fault = store.entries[index].name, store.entries[index].fault
    if fault:
        raise fault
    try:
        with _file(store, index) as file, _identified(file, name) as image:
            yield image
    except Image.DecompressionBombError as error:
        raise unreadable(Kind.BOMB, name, error) from error
    except _ERRORS as error:
        raise unreadable(Kind.TRUNCATED, name, error) from error


def _file(store: Store, index: int) -> BinaryIO:
    try:
        return store.open(index)
    except OSError as error:
        raise unreadable(kind_of(error), store.entries[index].name, error) from error


def _identified(file: BinaryIO, name: str) -> Image.Image:
    try:
        return Image.open(file)
    except UnidentifiedImageError as error:
        raise unreadable(Kind.FOREIGN if file.seek(0, 2) else Kind.EMPTY, name) from error


def unreadable(kind: Kind, name: str, error: Exception | None = None) -> PictureError:
    """The fault of a picture that cannot be read, and why."""
    said = why_not(error) if isinstance(error, OSError) else " ".join(str(error).split()).rstrip(".")
    why = str(kind) if not error or said == kind else f"{kind}: {said}"
    remedy = "allow it" if kind == Kind.PERMISSION else "mend it"
    return PictureError(kind, f"The picture {name} cannot be read ({why}); {remedy} or remove it.")


def _check_still(image: Image.Image, name: str) -> None:
    if image.format in _ANIMATIONS and getattr(image, "is_animated", False):
        raise PictureError(Kind.ANIMATED, f"The picture {name} is animated; save one of its frames by itself.")
    if image.mode in ("I", "F"):
        raise PictureError(
            Kind.DEPTH, f"The picture {name} has {image.mode} pixels, of no known range; save it in 8 bits."
        )


def _notes(image: Image.Image) -> Iterator[Kind]:
    if image.mode == "CMYK":
        yield Kind.CMYK
    if image.mode.startswith("I;16") or any(_SIXTEEN_BITS.search(str(tile[3])) for tile in getattr(image, "tile", [])):
        yield Kind.SIXTEEN_BIT
    announced = _orientation(image)
    image.load()  # EXIF data may follow the pixels; a TIFF's is used up by Pillow here
    if image.has_transparency_data:
        yield Kind.TRANSPARENT
    if _TURNED.intersection((announced, _orientation(image))):
        yield Kind.TURNED


def _orientation(image: Image.Image) -> int:
    """The EXIF tag as far as it is known without decoding: a PNG that is not loaded is not searched to its end."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    return int(image.getexif().get(_ORIENTATION, 1))


def _is_on_its_side(image: Image.Image) -> bool:
    return image.format != "TIFF" and _orientation(image) in (5, 6, 7, 8)  # Pillow gives a TIFF's upright size


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "CMYK":
        return _from_cmyk(image)
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.float32) / 257
        return Image.fromarray(grey.round().astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")
    return image.convert("RGB")


def _from_cmyk(image: Image.Image) -> Image.Image:
    """By the picture's own colour profile, where it has one that works."""
    profile = image.info.get("icc_profile")
    try:
        own = ImageCms.ImageCmsProfile(BytesIO(profile)) if profile else None
        converted = own and ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (OSError, ImageCms.PyCMSError):
        converted = None
    return converted or image.convert("RGB")
