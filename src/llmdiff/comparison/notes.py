"""Results of a comparison on disk, of which a damaged one is computed anew and never reported."""

import warnings
from pathlib import Path
from typing import Any

from llmdiff.checked_json import read_checked, write_checked
from llmdiff.errors import LLMDiffError
from llmdiff.files import why_not

_LARGEST = 20_000_000  # bytes


def write_note(path: Path, content: dict[str, Any]) -> None:
    """Writes a note, whole or not at all.

    Raises:
        LLMDiffError: The disk refuses.
    """
    try:
        write_checked(path, content)
    except OSError as error:
        raise LLMDiffError(f"The result {path} cannot be written ({why_not(error)}).") from error


def read_note(path: Path) -> dict[str, Any] | None:
    """The content of a note; None where there is none, or where it is damaged, which a warning tells with its name."""
    try:
        return read_checked(path, _LARGEST)
    except FileNotFoundError:
        return None
    except (OSError, LLMDiffError) as error:
        why = why_not(error) if isinstance(error, OSError) else str(error).rstrip(".")
        warnings.warn(f"The result {path} is damaged ({why}) and is computed anew.", stacklevel=2)
        return None
