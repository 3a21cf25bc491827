"""Encoded pictures made into upright 8-bit RGB, whatever they come as."""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from llmdiff.data.captioned import Size
from llmdiff.data.errors import Kind, PictureError, kind_of
from llmdiff.data.memory import BUDGET, Budget, fit
from llmdiff.data.store import LARGEST_PICTURE_FILE, Store
from llmdiff.errors import LLMDiffError
from llmdiff.files import readable, why_not
from llmdiff.headers import LFS

_ORIENTATION = 0x0112
_TURNED = frozenset(range(2, 9))
_SIXTEEN_BITS = re.compile(";16[BLN]")  # in the names that Pillow has for channels on disk
_ANIMATIONS = ("GIF", "PNG", "WEBP", "AVIF")  # others of several frames are pages, or previews of one photograph
_FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "JXL", "MPO", "PCX", "PNG", "PPM", "QOI", "SGI", "TGA",
    "TIFF", "WEBP",
)  # fmt: skip
"""The formats of pictures that are read, whatever a file's name: none that is a program, as EPS is."""
_HEAD = 64  # bytes
_KNOWN = {
    re.compile(rb"....ftyp(avif|avis)", re.DOTALL): "an AVIF file, which cannot be read here: save it as PNG",
    re.compile(rb"....ftyp", re.DOTALL): "a HEIC file or a video, which cannot be read here: save it as PNG",
    re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "): "a JPEG XL file, which cannot be read here: save it as PNG",
    re.compile(re.escape(LFS)): "a git-lfs pointer and not the picture: run `git lfs pull` in its folder",
    re.compile(rb"\s*<(!doctype|html|\?xml|svg)", re.IGNORECASE): "a web page or a drawing in SVG: fetch the picture",
}
"""The beginnings of files that people take for pictures, and what each is."""
_STRIP = 1_000_000  # pixels that are converted at once

_budget = Budget(BUDGET)
warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the budget decides what is too large


class Decoded(NamedTuple):
    """An upright RGB picture, what had to be done for it to be one, and the size of the one that is stored.

    Only a JPEG too large to be decoded whole has another size than the one that is stored.
    """

    image: Image.Image
    notes: tuple[Kind, ...]
    original: Size


@contextmanager
def decoded(store: Store, index: int) -> Iterator[Decoded]:
    """Picture number `index` of a store; within this context, the memory that it takes is lent to it.

    Raises:
        PictureError: It cannot be used; the sentence names it.
    """
    with ExitStack() as memory:
        picture = _decode(store, index, memory)
        memory.callback(picture.image.close)
        yield picture


def _decode(store: Store, index: int, memory: ExitStack) -> Decoded:
    with _opened(store, index) as image:
        name = store.entries[index].name
        _check_still(image, name)
        original = _upright_size(image)
        memory.enter_context(_budget.lent(fit(image, name, turned=_orientation(image) != 1)))
        notes = tuple(_notes(image))
        if Kind.TURNED in notes:
            ImageOps.exif_transpose(image, in_place=True)
        return Decoded(_rgb(image), notes, original)


def upright_size(store: Store, index: int) -> Size:
    """Height and width of picture number `index`, of which only the header is read.

    Raises:
        PictureError: It has none.
    """
    with _opened(store, index) as image:
        return _upright_size(image)


@contextmanager
def _opened(store: Store, index: int) -> Iterator[Image.Image]:
    """A picture, within a context in which every error is a `PictureError`: damage may lead Pillow to any."""
    name, fault = store.entries[index].name, store.entries[index].fault
    if fault:
        raise fault
    try:
        with _file(store, index) as file, _identified(file, name) as image:
            yield image
    except LLMDiffError:
        raise
    except (Image.DecompressionBombError, MemoryError) as error:
        raise unreadable(Kind.BOMB, name, error) from error
    except Exception as error:
        raise unreadable(Kind.TRUNCATED, name, error) from error


def _file(store: Store, index: int) -> BinaryIO:
    name = store.entries[index].name
    try:
        file = store.open(index)
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
    except OSError as error:
        raise unreadable(kind_of(error), name, error) from error
    if size > LARGEST_PICTURE_FILE:
        file.close()
        raise unreadable(Kind.BOMB, name, ValueError(f"it has {readable(size)}"))
    return file


def _identified(file: BinaryIO, name: str) -> Image.Image:
    Image.init()
    try:
        return Image.open(file, formats=[one for one in _FORMATS if one in Image.OPEN])
    except UnidentifiedImageError as error:
        raise _unidentified(file, name) from error


def _unidentified(file: BinaryIO, name: str) -> PictureError:
    """The fault of a file that Pillow takes for no picture, and what it is if that can be told."""
    file.seek(0)
    if not (head := file.read(_HEAD)):
        return unreadable(Kind.EMPTY, name)
    for beginning, what in _KNOWN.items():
        if beginning.match(head):
            return PictureError(Kind.FOREIGN, f"The picture {name} is {what}, or remove it.")
    return unreadable(Kind.FOREIGN, name)


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


def _upright_size(image: Image.Image) -> Size:
    is_on_its_side = image.format != "TIFF" and _orientation(image) in (
        5,
        6,
        7,
        8,
    )  # Pillow gives a TIFF's upright size
    return image.size if is_on_its_side else (image.height, image.width)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode == "CMYK":
        return _from_cmyk(image)
    if image.mode.startswith("I;16"):
        grey = (np.arange(2**16, dtype=np.float32) / 257).round().astype(np.uint8)
        return Image.fromarray(grey[np.asarray(image)]).convert("RGB")
    return _on_white(image) if image.has_transparency_data else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """Strip by strip, which takes a third of the memory."""
    result = Image.new("RGB", image.size)
    for strip in strips(image):
        seen = image.crop(strip).convert("RGBA")
        result.paste(Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB"), strip)
    return result


def strips(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """The boxes of a picture's parts from the top down, of a million pixels each."""
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        yield 0, top, image.width, min(top + rows, image.height)


def _from_cmyk(image: Image.Image) -> Image.Image:
    """By the picture's own colour profile, where it has one that works."""
    profile = image.info.get("icc_profile")
    try:
        own = ImageCms.ImageCmsProfile(BytesIO(profile)) if profile else None
        converted = own and ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (OSError, ImageCms.PyCMSError):
        converted = None
    return converted or image.convert("RGB")
