"""Faults of pictures and their rows, by name."""

from enum import StrEnum

from llmdiff.errors import LLMDiffError


class Kind(StrEnum):
    """Names of faults and notes."""

    ROW = "wrong row"
    SHARD = "unreadable shard"
    MISSING = "missing file"
    CAPTION = "missing caption"
    EMPTY = "empty file"
    FOREIGN = "not a picture"
    TRUNCATED = "truncated"
    BOMB = "decompression bomb"
    ANIMATED = "animated"
    DEPTH = "unknown depth"
    CMYK = "CMYK"
    SIXTEEN_BIT = "16-bit"
    TRANSPARENT = "transparent"
    TURNED = "turned by EXIF"
    DUPLICATE = "duplicate"


WHAT_IS_DONE = {
    Kind.CMYK: "converted to RGB",
    Kind.SIXTEEN_BIT: "scaled to 8 bits",
    Kind.TRANSPARENT: "laid on white",
    Kind.TURNED: "turned upright",
}
"""Notes: what is unusual in a picture that is usable all the same, and what is done about it."""


class PictureError(LLMDiffError):
    """A picture or row that cannot be used; the sentence names it."""

    def __init__(self, kind: Kind, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind

    def __reduce__(self) -> tuple[type, tuple[Kind, str]]:
        """For workers: an exception is else made again of its sentence alone."""
        return type(self), (self.kind, str(self))
