"""Picture files for the page: small copies of them, and what a PNG says of how it was drawn."""

import hashlib
import os
import re
import tempfile
from pathlib import Path

from PIL import Image

from llmdiff.errors import LLMDiffError
from llmdiff.files import written_whole
from llmdiff.generation import Document, read_picture, read_png
from llmdiff.generation.untrusted import check_amount

_MOST = 60  # pictures in the gallery


def newest_pictures(folder: Path) -> list[Path]:
    """The pictures of a folder that were written last, without sheets of comparison."""
    try:
        found = [
            entry
            for entry in os.scandir(folder)
            if entry.name.endswith(".png") and entry.is_file(follow_symlinks=False)
        ]
    except OSError:
        return []
    shown = [entry for entry in found if not re.search(r"-compare(-\d+)?\.png$", entry.name)]
    shown.sort(key=lambda entry: entry.stat().st_mtime_ns, reverse=True)
    return [Path(entry.path) for entry in shown[:_MOST]]


def thumbnail(path: Path, side: int) -> Path:
    """A copy of a picture that is no larger than `side` pixels, in the folder for the page's files.

    Raises:
        LLMDiffError: it is not a picture that can be read.
    """
    place = _place(path, f"{side}")
    if not place.is_file():
        image = read_picture(path)[0]
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        with written_whole(place) as draft:
            image.save(draft, format="PNG")
    return place


def for_page(path: Path) -> Path:
    """A copy of a picture as it is, with all that it carries, in the folder for the page's files.

    Gradio serves files of that folder, and of no other one that the app is not told to open.
    """
    place = _place(path, "whole")
    if not place.is_file():
        with written_whole(place) as draft:
            draft.write_bytes(path.read_bytes())
    return place


def _place(path: Path, what: str) -> Path:
    """Where a copy of a file lies, as it is now, under the file's own name."""
    status = path.stat()
    text = f"{path.absolute()} {status.st_size} {status.st_mtime_ns} {what}"
    return page_files() / hashlib.sha256(text.encode()).hexdigest()[:32] / path.name


def page_files() -> Path:
    """The folder of files that the page is given, which is gone when the app ends."""
    return Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir())


def read_back(path: Path) -> tuple[Image.Image, Document]:
    """A PNG that somebody has given to the page: its picture, and how it was drawn. No model is loaded by it.

    Raises:
        LLMDiffError: it was not written by llmdiff, or changed since.
    """
    try:
        image, document = read_png(path)
    except LLMDiffError as error:  # whose sentences name the file, and thereby a folder of this machine
        raise LLMDiffError(str(error).replace(str(path), path.name)) from error
    check_amount(document, image)
    return image, document
