"""Faults that pydantic finds in settings, in words for the one who wrote them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError

from llmdiff.errors import LLMDiffError

_LONGEST = 60  # characters of a value that are shown
_OF_KEYS = ("dict_type", "model_attributes_type", "model_type")  # a value where a section is
_OWN_WORDS = ("Value error, ", "Assertion failed, ")  # what pydantic puts before the words of a validator


def first_problem(error: ValidationError) -> str:
    """The first problem of a validation as the second half of a sentence, without its full stop.

    Args:
        error: as pydantic raises it.

    Returns:
        "there is no key 'loop.step'", say, or "loop.steps: input should be greater than 0, got -1".

    Example:
        >>> try:
        ...     settings = PictureSettings.model_validate({"prompt": "a cup", "steps": 0})
        ... except ValidationError as error:
        ...     print(first_problem(error))
        steps: input should be greater than or equal to 1, got 0
    """
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"there is no key {where!r}"
    if problem["type"] == "missing":
        return f"the key {where!r} is missing"
    what = "input should be keys and values" if problem["type"] in _OF_KEYS else problem["msg"]
    for prefix in _OWN_WORDS:
        what = what.removeprefix(prefix)
    what = what[:1].lower() + what[1:].rstrip(".")
    return f"{where}: {what}, got {_shortened(problem['input'])}" if where else what


@contextmanager
def valid(what: str) -> Iterator[None]:
    """Within it settings are made, and those that will not do are told in one sentence.

    Args:
        what: the settings are of, to begin a sentence: "The study".

    Raises:
        LLMDiffError: A setting will not do.

    Example:
        >>> with valid("The picture"):
        ...     settings = PictureSettings.model_validate({"prompt": "a cup", "steps": 0})
        Traceback (most recent call last):
        llmdiff.errors.LLMDiffError: The picture will not do: steps: input should be greater than or equal to 1, got 0.
    """
    try:
        yield
    except ValidationError as error:
        raise LLMDiffError(f"{what} will not do: {first_problem(error)}.") from None  # which may quote a secret


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
