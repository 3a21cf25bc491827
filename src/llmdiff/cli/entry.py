"""The way into the command line and out of it: whatever happens costs one line, from the first import on.

Nothing is imported here that takes time, so that Ctrl-C finds this module at work while everything else is imported.
"""

from __future__ import annotations

import _thread
import atexit
import io
import os
import signal
import sys
import time

TYPE_CHECKING = False  # as type checkers know it; importing typing takes longer than all else here
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType
    from typing import Any, NoReturn

INTERRUPTED = 130
_USUAL = {
    getattr(signal, name): handler
    for name, handler in (
        ("SIGINT", signal.default_int_handler),
        ("SIGTERM", signal.SIG_DFL),
        ("SIGHUP", signal.SIG_DFL),
    )
    if hasattr(signal, name)
}
"""The signals by which users and systems end a process: Ctrl-C, kill, a terminal that goes away; and their handlers."""
_PATIENCE = 1.0  # seconds
_owns_process = False


def owns_process() -> bool:
    """Whether this process is there for the command line alone, and no other code is in it."""
    return _owns_process


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; whatever goes wrong costs one sentence, never a traceback.

    Args:
        arguments: of the command line; None takes those of this process, which is to end with the status.
    """
    global _owns_process
    _owns_process = arguments is None
    interrupt = Interrupt()
    interrupt.attend()
    try:
        prepare_streams()
        from llmdiff.cli.app import run

        return run(arguments)
    except BaseException as error:
        interrupt.ignore()
        if isinstance(error, SystemExit):
            return error.code if isinstance(error.code, int) else 1
        if interrupt.came or isinstance(error, KeyboardInterrupt):
            return stop(interrupt.status) if arguments is None else _interrupted(interrupt.status)
        from llmdiff.cli import faults  # here, because it may be what fails

        return faults.report(error)
    finally:
        if arguments is None:
            interrupt.end()
        else:
            interrupt.leave()


class Interrupt:
    """Ctrl-C and its kin, raised until it arrives: a library may make another error of it at import, or lose it.

    Attributes:
        came: the number of the first that has come; 0 before.
    """

    def __init__(self) -> None:
        self.came = 0
        self._reminding = False  # what comes next is not from the user
        self._arrived = False
        self._mine = [number for number, usual in _USUAL.items() if signal.getsignal(number) == usual]
        self._unraisable = sys.unraisablehook
        self._thread = _thread.get_ident()

    @property
    def status(self) -> int:
        """The exit status of a process that it has ended."""
        return 128 + self.came if self.came else INTERRUPTED

    def attend(self) -> None:
        """Raise KeyboardInterrupt when it comes, unless this process was started to go on, as by nohup."""
        if self._mine:
            self._handle(self._raise)
            sys.unraisablehook = self._say_unraisable

    def ignore(self) -> None:
        """Let nothing disturb what is said of it."""
        self._handle(signal.SIG_IGN)

    def end(self) -> None:
        """End the process at once when it comes: there is nothing left to do."""
        self._handle(self._exit)

    def leave(self) -> None:
        """Make everything as it was before."""
        self._handle()
        sys.unraisablehook = self._unraisable

    def _handle(self, handler: Any = None) -> None:
        """Has a handler, or the usual ones, answer the signals that are not somebody else's."""
        self._arrived = handler != self._raise
        try:
            for number in self._mine:
                signal.signal(number, handler or _USUAL[number])
        except ValueError:  # in another thread than the main one, which does not get it either
            self._mine = []

    def _raise(self, number: int, _frame: FrameType | None) -> None:
        reminded, self._reminding = self._reminding, False
        if reminded and _is_being_handled():
            return
        if not self.came:
            self.came = number
            _thread.start_new_thread(self._remind, ())
        raise KeyboardInterrupt

    def _remind(self) -> None:
        """Has it come again, until it has gone all the way up."""
        while True:
            time.sleep(_PATIENCE)
            if self._arrived:
                return
            self._reminding = True
            if hasattr(signal, "pthread_kill"):
                signal.pthread_kill(self._thread, self.came)  # which ends a wait, too
            else:
                _thread.interrupt_main(signal.Signals(self.came))

    def _exit(self, number: int, _frame: FrameType | None) -> NoReturn:
        os._exit(_interrupted(128 + number))

    def _say_unraisable(self, lost: Any) -> None:
        """Of exceptions within finalisers, which Python prints and goes on; an interrupt will come again."""
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            self._unraisable(lost)


def _is_being_handled() -> bool:
    """Whether files are closed and results written just now because of an interrupt."""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def prepare_streams() -> None:
    """Give a process that was started without stdin, stdout or stderr empty ones, and let text of any kind be printed.

    A closed one would be the next file that is opened, into which others then print.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            # It stays open, and pathlib takes time to import.
            setattr(sys, name, open(os.devnull, "r" if number == 0 else "w", encoding="utf-8"))  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def stop(status: int) -> NoReturn:
    """End this process as an interrupted one, which Python, having seen an interrupt, might end by a signal instead."""
    _interrupted(status)
    atexit._run_exitfuncs()
    os._exit(status)


def _interrupted(status: int) -> int:
    _say("interrupted")
    return status


def _say(line: str) -> None:
    """Print on stderr, where that is possible, without what may not have been imported."""
    try:
        print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        return
