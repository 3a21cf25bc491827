"""Small files of results: JSON with a checksum, so that a damaged one is computed anew and never reported."""

import json
import warnings
from pathlib import Path
from typing import Any

from llmdiff.errors import LLMDiffError
from llmdiff.files import open_regular, read_text, why_not, written_whole
from llmdiff.hashing import json_hash
from llmdiff.structured_text import parse_json

_LARGEST = 20_000_000  # bytes


def write_note(path: Path, content: dict[str, Any]) -> None:
    """Writes a note, whole or not at all.

    Raises:
        LLMDiffError: The disk refuses.
    """
    try:
        with written_whole(path) as draft:
            draft.write_text(json.dumps({"checksum": json_hash(content), "content": content}, indent=1), "utf-8")
    except OSError as error:
        raise LLMDiffError(f"The result {path} cannot be written ({why_not(error)}).") from error


def read_note(path: Path) -> dict[str, Any] | None:
    """The content of a note; None where there is none, or where it is damaged, which a warning tells with its name."""
    try:
        text = read_text(open_regular(path), _LARGEST)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as error:
        _warn(path, why_not(error))
        return None
    try:
        note = parse_json(text, "it")
    except LLMDiffError as error:
        _warn(path, str(error).rstrip("."))
        return None
    content = note.get("content") if isinstance(note, dict) else None
    if not isinstance(content, dict) or note.get("checksum") != json_hash(content):
        _warn(path, "it is not what was written")
        return None
    return content


def _warn(path: Path, why: str) -> None:
    warnings.warn(f"The result {path} is damaged ({why}) and is computed anew.", stacklevel=3)
