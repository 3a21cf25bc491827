"""Limits on what tokenizers and templates may take: they come with a model, and are programs of whoever made it."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from llmdiff.errors import LLMDiffError

Result = TypeVar("Result")

SECONDS = 10.0
"""The time that a template, or a tokenizer with one text, may take: both are done in a fraction of a second."""
LOADING = 120.0
"""The time that loading a tokenizer may take; the largest ones, converted from other formats, take ten seconds."""
_BYTES = 500 * 2**20
_INTERVAL = 0.001  # seconds from one look at the memory to the next
_STATUS = Path("/proc/self/statm")
_PAGE = 4096
_SHOWN = 200  # characters of a reason


class LimitExceededError(Exception):
    """A program of a model took more time or memory than it may."""


@contextmanager
def limited_python(seconds: float = SECONDS, memory: int = _BYTES) -> Iterator[None]:
    """Within this context, Python that this thread runs ends with `LimitExceededError` when it takes too much.

    It is looked at from line to line, so in any thread; what a single call of a C function takes is not limited.

    Args:
        seconds: the time.
        memory: the bytes by which this process may grow, where the system tells (Linux).
    """
    end, start = time.monotonic() + seconds, _memory()
    look = time.monotonic() + _INTERVAL

    def trace(_frame: FrameType, _event: str, _argument: Any) -> Any:
        nonlocal look
        now = time.monotonic()
        if now > end:
            raise LimitExceededError(f"takes more than {seconds:g} seconds")
        if now > look:
            look = now + _INTERVAL
            if _memory() > start + memory:
                raise LimitExceededError(f"takes more than {memory // 2**20} MB of memory")
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def within_seconds(what: str, call: Callable[[], Result], seconds: float = SECONDS) -> Result:
    """The result of a call, which may be of native code.

    Args:
        what: whose it is, for the error ("The tokenizer of x").
        call: run in a thread of its own, since native code cannot be stopped: that one goes on, and ends with us.
        seconds: the time that it may take.

    Raises:
        LLMDiffError: it takes longer, or panics, as native code does.
    """
    done: list[Result] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(call())
        except BaseException as error:  # raised below
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed and not isinstance(failed[0], Exception | KeyboardInterrupt):  # PyO3's panics are no Exceptions
        raise LLMDiffError(f"{what} fails ({str(failed[0])[:_SHOWN]}): use another model.") from failed[0]
    if failed:
        raise failed[0]
    if not done:
        raise LLMDiffError(f"{what} takes more than {seconds:g} seconds: use another model.")
    return done[0]


def _memory() -> int:
    """The bytes that this process has in memory, 0 where the system does not say."""
    with suppress(OSError, ValueError, IndexError):
        return int(_STATUS.read_text().split()[1]) * _PAGE
    return 0
