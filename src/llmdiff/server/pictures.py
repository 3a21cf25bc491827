"""Pictures as bytes of a file."""

import io

from PIL import Image

from llmdiff.generation.picture import Picture
from llmdiff.generation.png import parameters_text, png_bytes
from llmdiff.server.schema import Format

_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286
_LONGEST = 60_000  # bytes of a comment: a JPEG's EXIF has 64 KB
_QUALITY = 100  # as OpenAI's API has it where nothing is said


def encoded(picture: Picture | Image.Image, output_format: Format, quality: int | None = None) -> bytes:
    """The file of a picture, with what it was drawn with.

    A PNG is the one that ``llmdiff generate`` writes. In JPEG and WebP the ``parameters`` are the EXIF user comment, as
    the AUTOMATIC1111 web UI writes them. A picture of latents says nothing.

    Args:
        picture: A drawn one, or one of latents.
        output_format: Of the file.
        quality: Of JPEG and WebP, in percent.
    """
    image = picture.image if isinstance(picture, Picture) else picture
    if output_format == "png" and isinstance(picture, Picture):
        return png_bytes(image, picture.document())
    buffer = io.BytesIO()
    if output_format == "png":
        image.save(buffer, format="PNG")
    else:
        exif = _comment(picture) if isinstance(picture, Picture) else Image.Exif()
        image.save(buffer, format=output_format.upper(), quality=_QUALITY if quality is None else quality, exif=exif)
    return buffer.getvalue()


def _comment(picture: Picture) -> Image.Exif:
    exif = Image.Exif()
    comment = b"UNICODE\0" + parameters_text(picture.metadata).encode("utf-16-be")
    if len(comment) <= _LONGEST:
        exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = comment
    return exif
