"""What is known of an LLM without its weights, from when they were loaded last, as long as its files are the same.

With it an LLM is ready when its tokenizer is, and its weights are loaded when they are needed: not at all for prompts
whose encodings are kept.
"""

from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import torch
import transformers

from llmdiff.checked_json import read_checked, write_checked
from llmdiff.content import content_hashes, file_source
from llmdiff.errors import LLMDiffError
from llmdiff.hashing import json_hash
from llmdiff.home import home
from llmdiff.language.blocks import Architecture

_VERSION = 2  # of what is kept here, and of the hashes in it


@dataclass(frozen=True)
class Facts:
    """What a `LanguageModel` is asked for besides its blocks.

    Attributes:
        architecture: ``decoder-only``, ``encoder-only`` or ``encoder-decoder``.
        attention: the name of the attention that it computes with.
        dtype: of its weights.
        content: the hash of its weights and configuration, in hexadecimal.
        fingerprint: of a sample of its weights, see `LanguageModel.identity`.
        record: what adapters record of its content, see `llmdiff.language.record`.
    """

    architecture: Architecture
    attention: str | None
    dtype: str
    content: str
    fingerprint: str
    record: dict[str, str]

    @classmethod
    def read(cls, key: str) -> Self | None:
        """Those kept under a key; None where there are none, or they are not what was written."""
        try:
            kept = read_checked(_path(key))
            return cls(**kept["facts"]) if kept["key"] == key else None
        except (OSError, LLMDiffError, TypeError, KeyError):
            return None

    def keep(self, key: str) -> None:
        """Keeps them under a key, where that is possible."""
        with suppress(OSError, LLMDiffError):
            write_checked(_path(key), {"key": key, "facts": asdict(self)})


def facts_key(folder: Path, options: object) -> str | None:
    """A hash of every file in a folder, by content, of the options of loading, and of the libraries that do it.

    None if a file cannot be read.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    try:
        found = content_hashes().of([file_source(path) for path in paths])
    except OSError:
        return None
    if any(isinstance(digest, OSError) for digest in found):
        return None
    files = {str(path.relative_to(folder)): digest for path, digest in zip(paths, found, strict=True)}
    return json_hash([_VERSION, files, options, torch.__version__, transformers.__version__])


def _path(key: str) -> Path:
    return home() / "llms" / f"{key}.json"
