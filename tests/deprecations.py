"""Deprecations that the host libraries log, where no filter of warnings sees them, made into failures."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

HOSTS = ("accelerate", "diffusers", "huggingface_hub", "peft", "transformers")
RETIRED = "will not receive bug fixes"
"""What diffusers says of whole pipelines, such as SAG's, which users have all the same."""
_BETWEEN = ("contextlib", "functools", "logging", "torch", "deprecations")  # a caller and what it calls


class Deprecations(logging.Handler):
    """Keeps the messages about something deprecated that one of us has called, and not another host.

    Attributes:
        messages: of the log.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the message of a record if it is about something deprecated."""
        message = record.getMessage()
        if "deprecat" in message.lower() and RETIRED not in message and _caller(_package(record.name)) not in HOSTS:
            self.messages.append(f"{record.name}: {message}")


def _caller(host: str) -> str:
    """The package that has called a host, from which this is called."""
    frame = sys._getframe()
    while frame.f_back and (name := _package(frame.f_globals.get("__name__", ""))) in (host, *_BETWEEN):
        frame = frame.f_back
    return name


def _package(module: str) -> str:
    return module.partition(".")[0]


@contextmanager
def refused() -> Iterator[None]:
    """Within it, no host may log that something is deprecated.

    Raises:
        AssertionError: At its end, if one has.
    """
    found = Deprecations()
    levels = {logger: logger.level for logger in map(logging.getLogger, HOSTS)}
    for logger in levels:
        logger.addHandler(found)
        logger.setLevel(min(logger.level or logging.WARNING, logging.WARNING))  # the command line makes them silent
    try:
        yield
    finally:
        for logger, level in levels.items():
            logger.removeHandler(found)
            logger.setLevel(level)
    assert not found.messages, "\n".join(found.messages)
