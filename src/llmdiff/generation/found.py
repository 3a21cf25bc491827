"""Pictures that are there, whoever has drawn them, and the prompts that they were drawn from."""

from collections.abc import Mapping
from pathlib import Path

from llmdiff.errors import LLMDiffError
from llmdiff.files import open_regular, read_text, why_not
from llmdiff.generation.png import prompt_in

_SUFFIXES = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_LONGEST = 1_000_000  # bytes of a prompt


def pictures_in(folder: Path) -> dict[str, Path]:
    """The pictures of a folder and of folders in it, by their path without its ending.

    Raises:
        LLMDiffError: There is no such folder, it has no pictures, or two of one name.

    Example:
        >>> sorted(pictures_in(Path("a")))[:2]
        ['000', '001']
    """
    if not folder.is_dir():
        raise LLMDiffError(f"There is no folder {folder}.")
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in _SUFFIXES or path.name.startswith("."):
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in files:
            raise LLMDiffError(f"{folder} has two pictures {name!r}, {files[name].name} and {path.name}: remove one.")
        files[name] = path
    if not files:
        raise LLMDiffError(f"The folder {folder} has no pictures.")
    return files


def check_same_names(files: Mapping[str, Mapping[str, Path]]) -> None:
    """Refuses systems that do not have the same pictures, as `pictures_in` gives those of each.

    Raises:
        LLMDiffError: One has a picture that another lacks.
    """
    first, *others = files
    for other in others:
        if different := sorted(files[first].keys() ^ files[other].keys()):
            has, lacks = (first, other) if different[0] in files[first] else (other, first)
            raise LLMDiffError(
                f"{has!r} has a picture {different[0]!r} and {lacks!r} has none: both need the same pictures under the "
                "same names, as `llmdiff generate --prompts FILE` writes them."
            )


def prompt_of(path: Path, chunks: dict[str, str]) -> str | None:
    """The prompt of a picture: by its text chunks as `read_picture` gives them, else by a text file of its name beside.

    Raises:
        LLMDiffError: The chunk or the file cannot be read.
    """
    return prompt_in(path, chunks) or _prompt_beside(path.with_suffix(".txt"))


def no_prompt(path: Path) -> LLMDiffError:
    """The error of a picture of which nothing says what it was drawn from."""
    beside = path.with_suffix(".txt").name
    return LLMDiffError(f"Nothing says what {path} was drawn from: put its prompt beside it, into a file {beside}.")


def _prompt_beside(path: Path) -> str | None:
    try:
        return read_text(open_regular(path), _LONGEST).strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as error:
        raise LLMDiffError(f"The prompt {path} cannot be read ({why_not(error)}).") from error
