"""What all tabs share: the models, the worker, and how an order is followed on the page."""

import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

import gradio as gr

from llmdiff.app import parts
from llmdiff.app.jobs import Work, Worker, follow
from llmdiff.app.reading import Reader
from llmdiff.app.studio import Studio
from llmdiff.errors import LLMDiffError

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
"""Options of every event: the page shows progress by itself, and nothing is offered to programs."""
LIGHT: dict[str, Any] = {**QUIET, "queue": False}
"""Options of events that are done at once."""


@dataclass(frozen=True)
class Shown:
    """An order as the page shows it.

    Attributes:
        status: HTML.
        found: what there is to show so far; None if there is nothing new.
        is_running: False once it is at its end.
    """

    status: str
    found: Any
    is_running: bool


@dataclass(frozen=True)
class Context:
    """The models and the worker of an app."""

    studio: Studio
    worker: Worker
    reader: Reader

    async def follow(
        self, request: gr.Request, make: Callable[[], Work], finished: Callable[[Any], str]
    ) -> AsyncIterator[Shown]:
        """Has some work done for a visitor, and gives what to show of it, again and again.

        Args:
            request: of the visitor, who has one order at a time.
            make: makes the work, and raises LLMDiffError if the form has a mistake.
            finished: says of the result what it is.
        """
        begun = time.monotonic()
        try:
            job = self.worker.submit(make(), owner_of(request))
        except LLMDiffError as error:
            yield Shown(parts.problem(error), None, False)
            return
        known: Any = None
        async for before, stage, share, part in follow(self.worker, job):
            yield Shown(parts.progress(before, stage, share), None if part is known else part, True)
            known = part
        if job.error is None:
            seconds = time.monotonic() - begun
            yield Shown(parts.done(f"Done in {seconds:.1f} s · {finished(job.result)}"), job.result, False)
        elif isinstance(job.error, CancelledError):
            yield Shown(parts.stopped(), job.part, False)
        else:
            _tell(job.error)
            yield Shown(parts.problem(job.error), job.part, False)

    def stop(self, request: gr.Request) -> None:
        """Stops the order of a visitor at its next step."""
        self.worker.stop(owner_of(request))


def owner_of(request: gr.Request) -> str:
    """The visitor whose page a request comes from."""
    return str(request.session_hash)


def running(is_running: bool) -> tuple[Any, Any]:
    """The buttons that begin and stop an order, while one is running and when none is."""
    return gr.Button(interactive=not is_running), gr.Button(interactive=is_running)


def _tell(error: Exception) -> None:
    """Prints an error that nobody has foreseen where the app was started."""
    if not isinstance(error, LLMDiffError):
        traceback.print_exception(error, file=sys.stderr)
