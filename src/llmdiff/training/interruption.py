"""Ctrl-C, SIGTERM and the loss of the terminal, answered at the end of a step."""

import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Any, Self

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Interruption:
    """Within it, SIGINT, SIGTERM and SIGHUP are only taken down, but for those that nohup has this process ignore.

    When it is left by an interrupt, whoever handles the signal otherwise gets it, and knows by which the process ends.

    Attributes:
        requested: True once one has come.
    """

    def __init__(self) -> None:
        self.requested = False
        self._came = 0
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # which alone may handle signals
            attended = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._handlers = {number: signal.signal(number, self._note) for number in attended}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        handler = self._handlers.get(self._came)
        if callable(handler) and kind is not None and issubclass(kind, KeyboardInterrupt):
            with suppress(KeyboardInterrupt):  # one is on its way
                handler(self._came, None)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.requested = True
        self._came = self._came or number
