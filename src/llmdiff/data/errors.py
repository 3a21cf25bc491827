"""Faults of pictures and their rows, and what is passed over, by name."""

import errno
from enum import StrEnum
from typing import NamedTuple

from llmdiff.errors import LLMDiffError


class Kind(StrEnum):
    """Names of faults and notes."""

    ROW = "wrong row"
    SHARD = "unreadable shard"
    MISSING = "missing file"
    PERMISSION = "no permission"
    SPECIAL = "no file"
    OUTSIDE = "outside the data"
    CHANGED = "changed"
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
    PARAGRAPHS = "paragraphs"
    ABSENT = "missing shard"
    LINKED = "linked folder"
    FOLDER = "subfolder"
    COMPANION = "system's own file"
    HIDDEN = "hidden"
    UNLISTED = "not listed"
    SPARE = "unused captions"
    SECOND = "second picture"
    UNKNOWN = "unknown type"


WHAT_IS_DONE = {
    Kind.CMYK: "converted to RGB",
    Kind.SIXTEEN_BIT: "scaled to 8 bits",
    Kind.TRANSPARENT: "laid on white",
    Kind.TURNED: "turned upright",
    Kind.PARAGRAPHS: "each line of it is a caption; set data.caption_per to file if all of it is one",
}
"""Notes: what is unusual in a picture that is usable all the same, and what is done about it."""

WHY_PASSED_OVER = {
    Kind.ABSENT: "shards that the numbers of data.path stand for and that are not there",
    Kind.LINKED: "linked folders, which data.outside lets in",
    Kind.FOLDER: "subfolders, in which no shards are looked for",
    Kind.COMPANION: "files of an operating system's own (._x, __MACOSX, @eaDir, Thumbs.db)",
    Kind.HIDDEN: "hidden files and folders, whose names begin with a dot",
    Kind.UNLISTED: "pictures that the metadata file does not list",
    Kind.SPARE: "files of captions that are not used: their pictures have others, or there are none",
    Kind.SECOND: "further pictures of one sample",
    Kind.UNKNOWN: "files of no type that is known for pictures",
}
"""What may be among the data without being a part of it; none of it is at fault, but all of it is told."""


class PassedOver(NamedTuple):
    """Something among the data that is not trained on; its kind is a key of `WHY_PASSED_OVER`."""

    name: str
    kind: Kind


class PictureError(LLMDiffError):
    """A picture or row that cannot be used; the sentence names it, without what would steer a terminal."""

    def __init__(self, kind: Kind, sentence: str) -> None:
        super().__init__("".join(letter if letter.isprintable() else "�" for letter in sentence))
        self.kind = kind

    def __reduce__(self) -> tuple[type, tuple[Kind, str]]:
        """For workers: an exception is else made again of its sentence alone."""
        return type(self), (self.kind, str(self))


def kind_of(error: OSError | UnicodeError) -> Kind:
    """The kind of fault of a file that cannot be read."""
    if isinstance(error, PermissionError):
        return Kind.PERMISSION
    if isinstance(error, FileNotFoundError):
        return Kind.MISSING
    if isinstance(error, UnicodeError):
        return Kind.ROW
    return Kind.BOMB if error.errno == errno.EFBIG else Kind.SPECIAL
