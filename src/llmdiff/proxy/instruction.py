"""What a proxy is told to do: a text per version, which never changes once pictures have been drawn with it."""

from importlib.resources import files
from pathlib import Path

from llmdiff.errors import LLMDiffError
from llmdiff.files import open_regular, read_text, why_not

VERSION = 1
"""Of the default instruction. A better text gets a new version."""
LONGEST = 20_000
"""Characters of an instruction at most: it goes into every picture."""


def default_instruction(version: int = VERSION) -> str:
    """The default instruction of a version, for prompts of text-to-image models.

    Example:
        >>> default_instruction().splitlines()[0]
        'You rewrite prompts for a text-to-image model that knows what things look like but cannot reason.'
    """
    return (files("llmdiff.proxy") / f"instruction_v{version}.txt").read_text("utf-8").strip()


def read_instruction(path: Path) -> str:
    """The instruction in a text file, in UTF-8.

    Raises:
        LLMDiffError: It cannot be read.
    """
    try:
        return read_text(open_regular(path), 4 * LONGEST).strip()
    except (OSError, UnicodeError) as error:
        raise LLMDiffError(f"The instruction {path} cannot be read ({why_not(error)}).") from error
