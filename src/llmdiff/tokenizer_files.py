"""Tokenizers of strangers: what they may weigh before they are loaded, and do to a text before they read one.

A tokenizer runs as native code, which nothing stops: what would take all memory has to be seen in its files.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llmdiff.errors import LLMDiffError
from llmdiff.files import open_regular, read_text, readable, why_not

_LARGEST = 100_000_000  # bytes of a file; the largest known has 35 MB
_MOST_ADDED = 200_000  # tokens beside the vocabulary
_LONGEST_PADDING = 1_000_000  # tokens
_NO_LENGTH = 10**20  # from which on transformers takes a length for none
_LARGEST_NUMBER = 1_000_000  # of a count in a configuration
_MOST_GROWTH = 1000  # characters that a normalizer makes of one
_FILES = ("tokenizer*.json", "*tokens*.json", "vocab*", "merges.txt", "*.model", "chat_template*")
_CONFIG = "tokenizer_config.json"
_LIMIT = "model_max_length"


def check_tokenizer_files(folder: Path) -> None:
    """Looks at the files of a tokenizer before it is loaded.

    Raises:
        LLMDiffError: One is no file or too large, they add too many tokens, or a number in them is none that a
            tokenizer has.
    """
    for file in sorted({found for pattern in _FILES for found in folder.glob(pattern)}):
        if file.is_dir():
            continue
        try:
            with open_regular(file) as opened:
                content = opened.read(_LARGEST + 1)
        except OSError as error:
            raise _refusal(file, why_not(error)) from error
        if len(content) > _LARGEST:
            raise _refusal(file, f"it has more than {readable(_LARGEST)}")
        if file.suffix == ".json" and (count := content.count(b'"content"')) > _MOST_ADDED:
            raise _refusal(file, f"it adds {count:,} tokens")
    if (folder / _CONFIG).is_file():
        _check_numbers(folder / _CONFIG)


def check_growth(tokenizer: object, what: str) -> None:
    """Raises LLMDiffError if what a fast tokenizer makes of a text before it is cut into tokens may be of any length.

    Args:
        tokenizer: of transformers.
        what: its name, at the beginning of the error.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    normalizer = getattr(backend, "normalizer", None)
    if normalizer is None:
        return
    growth = 1.0
    for step in _steps(json.loads(normalizer.__getstate__())):
        growth *= _growth(step)
        if growth > _MOST_GROWTH:
            raise LLMDiffError(
                f"{what} makes more than {_MOST_GROWTH:,} characters of one before it reads it: use another model."
            )


def _check_numbers(file: Path) -> None:
    try:
        config = json.loads(read_text(open_regular(file), _LARGEST))
    except (OSError, ValueError, RecursionError) as error:
        raise _refusal(file, "it is no JSON") from error
    for key, value in config.items() if isinstance(config, Mapping) else ():
        if key == _LIMIT and value is not None and not _is_count(value):
            raise _refusal(file, f"{key} is {str(value)[:20]!r}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        most = _LONGEST_PADDING if "length" in key else _LARGEST_NUMBER
        if value > most and not ("length" in key and value >= _NO_LENGTH):
            raise _refusal(file, f"{key} is {value:,}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 1 and value == value // 1


def _steps(normalizer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The steps of a normalizer that are none of several."""
    if "normalizers" in normalizer:
        for inner in normalizer["normalizers"]:
            yield from _steps(inner)
    else:
        yield normalizer


def _growth(step: Mapping[str, Any]) -> float:
    """How many characters a step makes of one, at most."""
    kind = step.get("type")
    if kind == "Replace":
        pattern = step["pattern"].get("String")
        return max(1.0, len(step["content"]) / len(pattern) if pattern else len(step["content"]) + 1)
    if kind == "Prepend":
        return 1.0 + len(step["prepend"])
    if kind == "Precompiled":
        return max(1.0, *map(len, _replacements(step["precompiled_charsmap"])))
    return 1.0


def _replacements(charsmap: str | None) -> list[bytes]:
    """What SentencePiece's table of characters puts in their place: after a trie, whose size stands before it."""
    content = base64.b64decode(charsmap or "")
    return [b"", *content[4 + int.from_bytes(content[:4], "little") :].split(b"\0")]


def _refusal(file: Path, why: str) -> LLMDiffError:
    return LLMDiffError(f"The tokenizer's file {str(file)!r} is none that a model has ({why}): use another model.")
