"""The headers of safetensors files, which say what a file holds without any weight being read."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open

from llmdiff.errors import LLMDiffError
from llmdiff.files import open_regular, why_not
from llmdiff.structured_text import read_json

_LARGEST_INDEX = 50_000_000  # characters: the largest LLMs have 100,000 weights
LFS = b"version https://git-lfs"
"""The beginning of what git checks out in place of a large file that git-lfs has not fetched."""


@dataclass(frozen=True)
class Header:
    """What a safetensors file holds: the shape of every tensor by its name, its metadata, and types of numbers."""

    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]
    types: dict[str, str] = field(default_factory=dict)


def read_header(file: Path) -> Header:
    """The header of a safetensors file.

    Raises:
        LLMDiffError: The file is a git-lfs pointer, no safetensors file, or shorter than its header says.
    """
    try:
        if is_lfs_pointer(file):
            raise LLMDiffError(
                f"The file {str(file)!r} is a git-lfs pointer and not the weights: run `git lfs pull` in its folder."
            )
        with safe_open(file, "np") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
            shapes = {name: tuple(one.get_shape()) for name, one in slices.items()}
            return Header(shapes, opened.metadata() or {}, {name: one.get_dtype() for name, one in slices.items()})
    except (SafetensorError, OSError) as error:
        why = why_not(error) if isinstance(error, OSError) else error
        raise LLMDiffError(f"The weights file {str(file)!r} is missing or damaged ({why}): fetch it again.") from error


def shards(index: Path) -> list[Path]:
    """The files that an index of weights names, each once.

    Raises:
        LLMDiffError: The index cannot be read, names none, or one that is not beside it.
    """
    names = read_json(index, _LARGEST_INDEX).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise LLMDiffError(f"The file {str(index)!r} lists no weights: fetch it again.")
    for name in names.values():
        if not isinstance(name, str) or name != Path(name).name or "\0" in name:
            raise LLMDiffError(
                f"The file {str(index)!r} says that weights are in {str(name)[:60]!r}, which is no file beside it: "
                "fetch it again."
            )
    return [index.parent / name for name in sorted(set(names.values()))]


def check_types(headers: Iterable[Header]) -> None:
    """Raises LLMDiffError if a weight is whole or complex numbers, as which only quantised models have any."""
    for header in headers:
        for name, kind in header.types.items():
            if name.endswith("weight") and not kind.startswith(("F", "BF")):
                raise LLMDiffError(
                    f"The weight {name} is of the type {kind}, and its config speaks of no quantisation: fetch the "
                    "model again."
                )


def readable_headers(folder: Path) -> list[Header]:
    """The headers of the safetensors files of a folder, those left out that cannot be read."""
    headers = []
    for file in sorted(folder.glob("*.safetensors")):
        with suppress(LLMDiffError, OSError):
            headers.append(read_header(file))
    return headers


def is_lfs_pointer(file: Path) -> bool:
    """Whether a file is what git checks out in place of the weights."""
    with open_regular(file) as opened:
        return opened.read(len(LFS)) == LFS
