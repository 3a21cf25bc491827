"""Folders of models that carry a list of their files' checksums, so that damage is found before they are loaded."""

import json
from collections.abc import Iterator
from pathlib import Path

from llmdiff.content import ContentHashes, content_hashes, file_source
from llmdiff.errors import LLMDiffError

NAME = "checksums.json"


def sign(folder: Path) -> None:
    """Writes the list of all files in a folder, but for its card."""
    hashes = ContentHashes(None)
    found = {str(path.relative_to(folder).as_posix()): hashes.of([file_source(path)])[0] for path in _files(folder)}
    (folder / NAME).write_text(json.dumps(found, indent=2) + "\n")


def damaged(folder: Path, whole: bool = False) -> str | None:
    """The name of a file that is missing or not what was written; None where there is none, or no list to tell.

    Args:
        folder: with or without a list.
        whole: True to read all files; else those that have not changed since they were read last are not.
    """
    listing = folder / NAME
    if not listing.is_file():
        return None
    try:
        expected = json.loads(listing.read_text(encoding="utf-8"))
        files = {str(name): folder / str(name) for name in expected}
        if missing := next((name for name, path in files.items() if not path.is_file()), None):
            return missing
        hashes = ContentHashes(None) if whole else content_hashes()
        found = dict(zip(files, hashes.of([file_source(path) for path in files.values()]), strict=True))
        return next((name for name, digest in found.items() if digest != expected[name]), None)
    except (OSError, ValueError, TypeError, RecursionError):
        return NAME


def check(folder: Path, remedy: str) -> None:
    """Raises LLMDiffError, naming the file and a remedy, if one in a folder with a list is not what was written."""
    if (name := damaged(folder)) is not None:
        raise LLMDiffError(f"The file {folder / name} is damaged, it is not what was written: {remedy}.")


def _files(folder: Path) -> Iterator[Path]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return (path for path in files if path.suffix != ".md" and path.name != NAME)
