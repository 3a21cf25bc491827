"""Running the command line in a test."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """Exit status and what was printed."""

    status: int
    stdout: str
    stderr: str


Run = Callable[..., Result]
