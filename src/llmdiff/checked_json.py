"""Small JSON files of ours with a checksum, so that a changed byte is never taken for what was written."""

import json
from pathlib import Path
from typing import Any

from llmdiff.errors import LLMDiffError
from llmdiff.files import open_regular, read_text, written_whole
from llmdiff.hashing import json_hash
from llmdiff.structured_text import LARGEST_JSON, parse_json


def write_checked(path: Path, content: dict[str, Any]) -> None:
    """Writes a file, whole or not at all; its folder is made if need be.

    Raises:
        OSError: The disk refuses.
    """
    with written_whole(path) as draft:
        draft.write_text(json.dumps({"checksum": json_hash(content), "content": content}, indent=1), encoding="utf-8")


def read_checked(path: Path, most: int = LARGEST_JSON) -> dict[str, Any]:
    """What `write_checked` has written.

    Args:
        path: of the file.
        most: bytes that it may have.

    Raises:
        OSError: It cannot be read.
        LLMDiffError: It is damaged.

    Example:
        >>> write_checked(Path("result.json"), {"steps": 400})
        >>> read_checked(Path("result.json"))
        {'steps': 400}
    """
    try:
        found = parse_json(read_text(open_regular(path), most), "it")
    except UnicodeError as error:
        raise LLMDiffError("it is not UTF-8.") from error
    content = found.get("content") if isinstance(found, dict) else None
    if not isinstance(content, dict) or found.get("checksum") != json_hash(content):
        raise LLMDiffError("it is not what was written.")
    return content
