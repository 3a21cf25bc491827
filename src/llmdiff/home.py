"""The folder of what llmdiff has downloaded or converted."""

import os
from pathlib import Path

from llmdiff.errors import LLMDiffError


def home() -> Path:
    """The folder of llmdiff's own files: ``LLMDIFF_HOME``, else ``llmdiff`` in the user's cache folder.

    The cache folder is ``XDG_CACHE_HOME`` where that is set and ``~/.cache`` elsewhere. The folder may not exist yet.

    Raises:
        LLMDiffError: neither is set, and the system knows of no home of this user, as in some containers.
    """
    try:
        own = os.environ.get("LLMDIFF_HOME")
        if own:
            return Path(own).expanduser()
        cache = os.environ.get("XDG_CACHE_HOME")
        return (Path(cache) if cache else Path.home() / ".cache").expanduser() / "llmdiff"
    except RuntimeError as error:
        raise LLMDiffError(
            "This user has no home folder, in which llmdiff's files would be: set LLMDIFF_HOME to a folder."
        ) from error
