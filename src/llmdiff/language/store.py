"""Encodings of single prompts on disk, for this process and the next."""

import os
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from llmdiff import tensor_files
from llmdiff.errors import LLMDiffError
from llmdiff.files import drop_oldest, written_whole
from llmdiff.home import home

SETTING = "LLMDIFF_ENCODINGS_MB"
DEFAULT_MEGABYTES = 512

_NAME = "embeds"


class EncodingStore:
    """Encodings by the hash of all that they depend on; those not used for longest go first.

    Several processes may share a folder: a file is there whole or not at all, and one that is gone or damaged is as one
    that never was. Where nothing can be written, nothing is kept.

    Args:
        folder: that of the files; made on the first use.
        limit: the size in bytes that they have together at most.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit

    def get(self, key: str) -> Tensor | None:
        """Returns the encoding (S, D) kept under a key, which counts as used now, or None."""
        path = self._path(key)
        try:
            embeds = tensor_files.read(path, tensor_files.CHECKSUM)[0][_NAME]
        except PermissionError:  # it may be another user's, and whole
            return None
        except (*tensor_files.DAMAGE, KeyError):
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        with suppress(OSError):  # of a file that may be read and not touched, or that another process has dropped
            os.utime(path)
        return embeds

    def put(self, key: str, embeds: Tensor) -> None:
        """Keeps an encoding (S, D), and drops those not used for longest if all are too many then."""
        embeds = embeds.detach().cpu().contiguous()
        if embeds.nbytes > self.limit:
            return
        with suppress(*tensor_files.DAMAGE):
            with written_whole(self._path(key)) as draft:
                tensor_files.write(draft, {_NAME: embeds}, tensor_files.CHECKSUM)
            drop_oldest(self.folder, self.limit)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"


def default_store() -> EncodingStore | None:
    """Returns the store in llmdiff's home, of the size that ``LLMDIFF_ENCODINGS_MB`` sets; None if that is 0.

    None too where there is no home: encodings can be made again.
    """
    setting = os.environ.get(SETTING, "")
    megabytes = int(setting) if setting.isdecimal() else DEFAULT_MEGABYTES
    try:
        return EncodingStore(home() / "encodings", megabytes * 2**20) if megabytes else None
    except LLMDiffError:
        return None
