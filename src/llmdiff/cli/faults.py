"""What any exception means to the user: the one place that turns complaints of host libraries into a sentence."""

import errno
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from typer.exceptions import TyperException

from llmdiff.cli import console
from llmdiff.errors import LLMDiffError, is_out_of_memory

TRACEBACK = "LLMDIFF_TRACEBACK"
"""The environment variable that has developers see where an error came from."""
_DASH = " (a prompt that begins with a dash goes behind --)"
_LONGEST_NAME = 200  # characters of a path
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def report(error: BaseException) -> int:
    """Print the one sentence of an error on stderr, if there is one to print, and return the exit status."""
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    message = sentence(error)
    with suppress(OSError):  # stderr may be what fails
        if message:
            console.report_error(message)
    if isinstance(error, OSError):
        _give_up_output()
    return error.exit_code if isinstance(error, TyperException) else 1


def sentence(error: BaseException) -> str:
    """What went wrong and what to do; empty where there is nobody to tell, or it has been told."""
    if isinstance(error, LLMDiffError):
        return str(error)
    if isinstance(error, TyperException):
        message = error.format_message()  # empty where the help has been printed instead
        return f"{message}{_DASH}" if message.startswith("No such option") else message
    if any(is_out_of_memory(one) for one in _chain(error)):
        return "There is not enough memory: ask for less at a time, or choose a smaller model."
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return "No further thread can be started: memory, or the number of your processes, is limited too narrowly."
    if _is_offline(error):
        return (
            f"Something is to be fetched and this machine is offline ({_reason(error)}): connect it, or give folders "
            "that are here."
        )
    if isinstance(error, BrokenPipeError):
        return ""
    if isinstance(error, OSError):
        return _system_fault(error)
    if isinstance(error, UnicodeError):
        return f"A name or a text is not valid in the encoding that it should have: {_reason(error)}."
    if isinstance(error, ImportError):
        return f"A library is missing, broken or too old ({_reason(error)}): install llmdiff-adapter again."
    return (
        f"This was not foreseen: {type(error).__name__}, {_reason(error)}; {TRACEBACK}=1 in the environment shows "
        "where it comes from."
    )


def _reason(error: BaseException) -> str:
    """The first words of an exception; imported here, because that takes time."""
    from llmdiff.sources import reason

    return reason(error) if isinstance(error, Exception) else type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_offline(error: BaseException) -> bool:
    from llmdiff.sources import is_offline  # here, because that takes time

    return is_offline(error)


def _give_up_output() -> None:
    """Keeps Python from trying again, at its end, to write what could not be written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError), Path(os.devnull).open("w") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())


def _system_fault(error: OSError) -> str:
    name = str(error.filename or "")
    place = f" ({name if len(name) <= _LONGEST_NAME else f'{name[:_LONGEST_NAME]}…'})" if name else ""
    if error.errno in _FULL:
        return f"The disk is full{place}: make room and run the command again."
    if error.errno in _FORBIDDEN:
        return f"No permission to use a file or folder{place}: choose another place or change its permissions."
    return f"The system reports: {error.strerror or error}{place}."
