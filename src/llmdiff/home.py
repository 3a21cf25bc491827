"""The folder of what llmdiff has downloaded or converted."""

import os
from pathlib import Path


def home() -> Path:
    """The folder of llmdiff's own files: ``LLMDIFF_HOME``, else ``llmdiff`` in the user's cache folder.

    The cache folder is ``XDG_CACHE_HOME`` where that is set and ``~/.cache`` elsewhere. The folder may not exist yet.
    """
    own = os.environ.get("LLMDIFF_HOME")
    if own:
        return Path(own).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache").expanduser() / "llmdiff"
