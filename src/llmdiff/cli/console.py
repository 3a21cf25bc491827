"""The output of the commands: results on stdout, everything else on stderr, one line per warning or error."""

import json
import logging
import math
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import typer
from rich.console import Console
from rich.text import Text

from llmdiff.cli.entry import owns_process
from llmdiff.errors import LLMDiffError
from llmdiff.progress_bar import errors
from llmdiff.progress_bar import progress_bar as progress_bar

_LONGEST = 2000  # characters of a warning or error, which may quote what the user gave
results = Console()


def print_json(data: Any) -> None:
    """Print a result as JSON, in ASCII, so that any terminal and any encoding carries it."""
    print_line(json.dumps(data, indent=2))


def print_line(text: object) -> None:
    """Print one line of a result, unwrapped and unstyled."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()  # a full disk is reported here, not when Python ends


def say(label: str, message: str, style: str) -> None:
    """Print one line on stderr, however many the message has, and nothing that would steer the terminal."""
    line = " ".join(message.split())
    line = line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …"
    line = "".join(character if character.isprintable() else "�" for character in line)
    errors.print(Text.assemble((f"{label}: ", style), line), soft_wrap=True)


def report_error(message: str) -> None:
    """Print an error's sentence."""
    say("error", message, "bold red")


def finite(number: float) -> float:
    """The value of an option, which is not nan: that is neither below nor above any bound."""
    if math.isnan(number):
        raise typer.BadParameter(f"{number} is not a number.")
    return number


def numbers(text: str) -> str:
    """The value of an option, which is finite numbers between 0 and 100, divided by commas."""
    try:
        usable = all(0 <= number <= 100 for number in as_numbers(text))
    except ValueError:
        usable = False
    if not usable:
        raise typer.BadParameter(f"{text!r} is not of the form 1,2,8: numbers of 0 to 100.")
    return text


def as_numbers(text: str) -> tuple[float, ...]:
    """The numbers of such a value."""
    return tuple(float(part) for part in text.split(",")) if text.strip() else ()


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Within this context Python's warnings are one line each; those meant for developers are not shown.

    So are errors that end a thread of a library: what it has to do with the command, the command finds out.
    """
    with warnings.catch_warnings(), _one_line_thread_deaths():
        for developers in (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ResourceWarning):
            warnings.simplefilter("ignore", developers)
        warnings.filterwarnings(
            "ignore", module=r"(torch\.(cuda|nn|optim|utils\.data)|accelerate|huggingface_hub|tqdm)\b"
        )
        warnings.showwarning = _show_warning
        yield


@contextmanager
def _one_line_thread_deaths() -> Iterator[None]:
    before = threading.excepthook
    threading.excepthook = _show_thread_death
    try:
        yield
    finally:
        threading.excepthook = before


def _show_thread_death(lost: threading.ExceptHookArgs) -> None:
    from llmdiff.cli import faults  # which imports this module

    if lost.exc_value is not None and (sentence := faults.sentence(lost.exc_value)):
        say("warning", sentence, "yellow")


def quiet_hosts() -> None:
    """Turn off the progress bars and notices of diffusers and transformers; the Hub's download bars stay.

    torchao, which both import where it is installed, tells of every library of its own that is for other machines.

    Raises:
        LLMDiffError: they cannot be imported as this process was started.
    """
    check_start()
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if owns_process():
        from llmdiff.cli.hosts import import_hosts

        import_hosts()
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for host in (diffusers_logging, transformers_logging):
        host.set_verbosity_error()
        host.disable_progress_bar()


def check_start() -> None:
    """Raises LLMDiffError where libraries would end the process, or blame a model for what Python was told."""
    if sys.flags.optimize > 1:
        raise LLMDiffError("Python runs with -OO or PYTHONOPTIMIZE=2, with which transformers fails: start it without.")
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise LLMDiffError("The folder in which the command was started is gone: change to another one.") from error


def rest_when_waiting() -> None:
    """Has the threads of a calculation sleep where they wait for each other, which OpenMP has them do by turning.

    A picture is of thousands of small steps. Turning wins a few microseconds at each on a machine that is idle, takes
    as much of its processors as the calculation itself, and beside other work several times as much.
    """
    if owns_process():
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    say("warning", str(message), "yellow")
