"""Deprecations that the host libraries log, where no filter of warnings sees them, made into failures."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

HOSTS = ("accelerate", "diffusers", "huggingface_hub", "peft", "transformers")
RETIRED = "will not receive bug fixes"
"""What diffusers says of whole pipelines, such as SAG's, which users have all the same."""
BY_HOSTS = ("diffusers/pipelines/kolors/",)
"""Where a host itself uses what another one is to take away: diffusers 0.42's copy of ChatGLM, of transformers 5.24."""


class Deprecations(logging.Handler):
    """Keeps the messages about something deprecated.

    Attributes:
        messages: of the log.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the message of a record if it is about something deprecated."""
        message = record.getMessage()
        if "deprecat" in message.lower() and RETIRED not in message and not _is_the_hosts_own():
            self.messages.append(f"{record.name}: {message}")


def _is_the_hosts_own() -> bool:
    """True where the deprecated thing is used by one of the files of `BY_HOSTS`."""
    files = (frame.filename.replace("\\", "/") for frame in traceback.extract_stack())
    return any(place in file for file in files for place in BY_HOSTS)


@contextmanager
def refused() -> Iterator[None]:
    """Within it, no host may log that something is deprecated.

    Raises:
        AssertionError: At its end, if one has.
    """
    found = Deprecations()
    loggers = [logging.getLogger(host) for host in HOSTS]
    for logger in loggers:
        logger.addHandler(found)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(found)
    assert not found.messages, "\n".join(found.messages)
