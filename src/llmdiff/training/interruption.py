"""Ctrl-C and SIGTERM, answered at the end of a step."""

import signal
import threading
from types import FrameType
from typing import Any, Self


class Interruption:
    """Within it, SIGINT and SIGTERM are only taken down.

    Attributes:
        requested: True once one has come.
    """

    def __init__(self) -> None:
        self.requested = False
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # which alone may handle signals
            self._handlers = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
