"""The headers of safetensors files, which say what a file holds without any weight being read."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from llmdiff.errors import LLMDiffError

LFS = b"version https://git-lfs"
"""The beginning of what git checks out in place of a large file that git-lfs has not fetched."""


@dataclass(frozen=True)
class Header:
    """What a safetensors file holds: the shape of every tensor by its name, and its metadata."""

    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]


def read_header(file: Path) -> Header:
    """The header of a safetensors file.

    Raises:
        LLMDiffError: The file is a git-lfs pointer, no safetensors file, or shorter than its header says.
    """
    if is_lfs_pointer(file):
        raise LLMDiffError(
            f"The file {str(file)!r} is a git-lfs pointer and not the weights: run `git lfs pull` in its folder."
        )
    try:
        with safe_open(file, "np") as opened:
            shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118 - not a mapping
            return Header(shapes, opened.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise LLMDiffError(
            f"The weights file {str(file)!r} is missing or damaged ({error}): fetch it again."
        ) from error


def readable_headers(folder: Path) -> list[Header]:
    """The headers of the safetensors files of a folder, those left out that cannot be read."""
    headers = []
    for file in sorted(folder.glob("*.safetensors")):
        with suppress(LLMDiffError, OSError):
            headers.append(read_header(file))
    return headers


def is_lfs_pointer(file: Path) -> bool:
    """Whether a file is what git checks out in place of the weights."""
    with file.open("rb") as opened:
        return opened.read(len(LFS)) == LFS
