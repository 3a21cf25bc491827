"""Rewritings on disk, so that a prompt is sent once, and drawn from the same text the next time."""

import os
from contextlib import suppress
from pathlib import Path

from llmdiff.checked_json import read_checked, write_checked
from llmdiff.errors import LLMDiffError
from llmdiff.files import drop_oldest
from llmdiff.hashing import json_hash
from llmdiff.home import home
from llmdiff.proxy.answer import LONGEST, NoAnswerError, checked
from llmdiff.proxy.config import ProxyConfig

_LIMIT = 64 * 2**20  # bytes of all rewritings together
_MOST_BYTES = 20 * LONGEST  # of one, with every character escaped


class RewritingStore:
    """Rewritings by the hash of all that they depend on; those not used for longest go first.

    A file that is damaged is as one that never was, and where nothing can be written, nothing is kept.

    Args:
        folder: that of the files; made on the first use.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str) -> str | None:
        """Returns the text kept under a key, or None."""
        path = self._path(key)
        try:
            text = checked(read_checked(path, _MOST_BYTES).get("text"))
        except FileNotFoundError:
            return None
        except (OSError, LLMDiffError, NoAnswerError):
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        with suppress(OSError):
            os.utime(path)
        return text

    def put(self, key: str, text: str) -> None:
        """Keeps a text."""
        with suppress(OSError):
            write_checked(self._path(key), {"text": text})
            drop_oldest(self.folder, _LIMIT)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def key_of(config: ProxyConfig, prompt: str, number: int) -> str:
    """The hash of all that answer `number` to a prompt depends on, as far as it can be known."""
    asked = [config.completions, config.model, config.instruction, config.temperature_of_answers(), number, prompt]
    return json_hash(asked)


def default_store() -> RewritingStore | None:
    """Returns the store in llmdiff's home; None where there is none."""
    try:
        return RewritingStore(home() / "rewritings")
    except LLMDiffError:
        return None
