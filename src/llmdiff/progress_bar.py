"""Progress on stderr: a bar where that is a terminal, and a line now and then where it is a file.

A log of nohup, of a batch system or of a build server so shows that work goes on, and how long it will take.
"""

import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

from rich.console import Console
from rich.progress import BarColumn, Task, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from llmdiff.progress import Progress

errors = Console(stderr=True)
"""Where all of llmdiff prints what is no result. Bars that are shown within each other share it."""

_SOONEST, _LATEST = 10.0, 300.0  # seconds between two lines
_LINES = 20  # in the time that has gone by, within those bounds
_REMEMBERED = 600.0  # seconds by which the time that is left is reckoned
_open: list[Bar] = []


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Shows what is reported to it; of several processes that a launcher has started, the first one's.

    Example:
        >>> with progress_bar() as progress:
        ...     progress("Drawing", 0.5)
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    speaks = os.environ.get("RANK", "0") == "0"
    animates = errors.is_terminal and not errors.is_dumb_terminal
    with Bar(
        *columns, console=errors, transient=True, disable=not (speaks and animates), speed_estimate_period=_REMEMBERED
    ) as bar:
        bar.add_task("Starting", total=1.0)
        (task,) = bar.tasks
        with _lines(bar, task) if speaks and not animates else nullcontext():
            yield lambda stage, share: _update(bar, task, stage, share)


def _update(bar: Bar, task: Task, stage: str, share: float) -> None:
    if share < task.completed or _kind(stage) != _kind(task.description):
        bar.reset(task.id)  # so that the time that is left is reckoned by the pace of this stage
        task.completed = share
    bar.update(task.id, description=stage, completed=share)


def _kind(stage: str) -> str:
    """What is done, without its figures and what is in brackets: "Training, step 3 of 9" and "… 4 of 9" are one."""
    return re.sub(r"[\d.,]+|\(.*?\)", "", stage).strip()


@contextmanager
def _lines(bar: Bar, task: Task) -> Iterator[None]:
    """Prints lines from a thread, so that a stage that reports nothing for long is seen to go on."""
    done, began = threading.Event(), time.monotonic()

    def speak() -> None:
        while not done.wait(min(max((time.monotonic() - began) / _LINES, _SOONEST), _LATEST)):
            if _open[-1] is bar:
                with suppress(OSError, ValueError):  # work goes on where nobody can be told of it
                    print(_line(task), file=sys.stderr, flush=True)

    _open.append(bar)
    thread = threading.Thread(target=speak, daemon=True, name="progress")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        _open.remove(bar)


def _line(task: Task) -> str:
    """Such as ``progress: Training, step 30 of 900, loss 0.1034, 21 images/s, 3 %, 0:04:10 left``."""
    parts = [f"progress: {task.description}"]
    if task.completed:
        parts.append(f"{task.percentage:.0f} %")
    if task.time_remaining:
        parts.append(f"{TimeRemainingColumn().render(task)} left")
    return "".join(character if character.isprintable() else "�" for character in ", ".join(parts))
