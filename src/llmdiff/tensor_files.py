"""Safetensors files that carry their own checksum, so that damage is found before a number of theirs is used.

The checksum is a CRC-32 of all tensors, names, dtypes and shapes and of a text that is kept with them: a byte that is
not as it was written is always found, at several GB/s. Files without one, of earlier versions, are read as they are.
"""

import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from llmdiff.files import open_regular

DAMAGE = (OSError, SafetensorError)
"""The exceptions of a file that cannot be read or is not what was written."""

CHECKSUM = "checksum"
"""The key of files that have no other text."""
_MARK = "crc32:"


def signed(tensors: Mapping[str, Tensor], key: str, text: str = "") -> dict[str, str]:
    """The metadata of a file of these tensors, which are contiguous and on the CPU: a text with its checksum.

    It is one entry: safetensors does not keep the order of several, and equal content is to be an equal file.

    Args:
        tensors: of the file.
        key: by which the text is found.
        text: of any kind.
    """
    return {key: f"{_MARK}{_checksum(tensors, text)} {text}"}


def write(path: Path, tensors: Mapping[str, Tensor], key: str, text: str = "") -> None:
    """Writes a file; for the arguments see `signed`.

    Raises:
        OSError, SafetensorError: The disk refuses.
    """
    save_file(dict(tensors), path, metadata=signed(tensors, key, text))


def read(path: Path, key: str) -> tuple[dict[str, Tensor], str]:
    """The tensors and the text of a file that is what was written; the text is empty where there is none.

    Raises:
        OSError, SafetensorError: It is not, see `DAMAGE`.

    Example:
        >>> write(Path("a.safetensors"), {"x": torch.ones(2)}, "state", "3")
        >>> read(Path("a.safetensors"), "state")
        ({'x': tensor([1., 1.])}, '3')
    """
    open_regular(path).close()  # safetensors takes a lack of permission for a lack of the file, and waits for a FIFO
    with safe_open(path, framework="pt") as file:
        text = text_of(file.metadata(), key)
        expected = (file.metadata() or {}).get(key)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    if expected not in (None, text) and signed(tensors, key, text)[key] != expected:
        raise SafetensorError("it is not what was written: a byte of it at least has changed")
    return tensors, text


def text_of(metadata: Mapping[str, str] | None, key: str) -> str:
    """The text in a file's metadata, without its checksum."""
    found = (metadata or {}).get(key, "")
    return found.partition(" ")[2] if found.startswith(_MARK) else found


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    total = zlib.crc32(text.encode(errors="surrogatepass"))
    for name, tensor in sorted(tensors.items()):
        total = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), total)
        total = zlib.crc32(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data, total)
    return f"{total:08x}"
