"""The sources of models, folders or Hub ids, and the reasons why one cannot be used."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub import errors as hub_errors
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    StrictDataclassError,
)
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError

from llmdiff.errors import LLMDiffError

NetworkError: type[Exception] = vars(hub_errors)["HTTPError"]
"""What the Hub's client raises without a network: of the HTTP library that it is built on, which changes."""
LOADING_FAULTS = (
    OSError, ValueError, RuntimeError, TypeError, LookupError, AttributeError, ImportError,
    ArithmeticError, AssertionError, MemoryError, NameError, SafetensorError, StrictDataclassError, NetworkError,
)  # fmt: skip
"""The exceptions of diffusers, transformers, safetensors and huggingface_hub for files that they cannot use."""

_LONGEST = 300  # characters of a reason


@contextmanager
def with_classes() -> Iterator[None]:
    """Within it, an exception of no class of its own, as the library tokenizers raises, is a ValueError, as of hosts.

    Example:
        >>> with with_classes():
        ...     raise Exception("of no class")
        Traceback (most recent call last):
        ValueError: of no class
    """
    try:
        yield
    except Exception as error:
        if type(error) is Exception:
            raise ValueError(str(error)) from error
        raise


def local_folder(name: str, what: str, marker: str) -> Path | None:
    """The folder that a name means, or None if it can only be a Hub id.

    Args:
        name: what the user gave.
        what: the kind of model, for the error ("base model").
        marker: the file by which such a folder is known.

    Raises:
        LLMDiffError: if it is neither a folder with that file nor a possible Hub id.
    """
    path = Path(name).expanduser()
    if path.is_file():
        raise LLMDiffError(f"The {what} {name!r} is a single file: give a folder, with {marker} in it.")
    if path.is_dir():
        if not (path / marker).is_file():
            raise LLMDiffError(f"The folder {name!r} holds no {what}: there is no {marker} in it.")
        return path
    if not is_hub_id(name):
        raise LLMDiffError(f"There is no {what} at {name!r}: give an existing folder or a Hugging Face Hub id.")
    return None


def is_hub_id(name: str) -> bool:
    """True if the Hub could have a repository of that name."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def is_offline(error: BaseException | None) -> bool:
    """True if an exception, or what it came from, tells of a network that is not there or not to be used."""
    while error is not None:
        absent = isinstance(error, NetworkError) and not isinstance(error, HfHubHTTPError)
        if absent or isinstance(error, ConnectionError | LocalEntryNotFoundError | socket.gaierror):
            return not isinstance(error, BrokenPipeError)
        error = error.__cause__ or error.__context__
    return False


def fetch_reason(error: Exception) -> str:
    """As `reason`, of what could not be fetched: a machine that is offline is told so, whatever the host says of it."""
    if not is_offline(error):
        return reason(error)
    why = ", since HF_HUB_OFFLINE is set" if constants.is_offline_mode() else ""
    return f"this machine is offline{why}; connect it for the first run, or give a folder"


def reason(error: Exception) -> str:
    """The first sentence of a host library's message, on one line and without a full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    first = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return first.split(". ")[0].split(" (")[0].rstrip(".:")[:_LONGEST]


def public_name(name: str | PathLike[str] | None) -> str | None:
    """A Hub id as it is; of a local path the last part only, since records are for other people."""
    if name is None:
        return None
    return str(name) if is_remote_id(str(name)) else Path(name).name


def is_remote_id(name: str) -> bool:
    """True if a name has the form owner/name and is no local folder."""
    return name.count("/") == 1 and is_hub_id(name) and not Path(name).exists()
