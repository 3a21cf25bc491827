"""Prompt syntax of Stable Diffusion web UIs that is read as plain text here.

Prompt weights are the exception: see `llmdiff.language.emphasis`.
"""

import functools
import re
import warnings
from collections.abc import Iterator

_NUMBER = r"[+-]?(?:\d++(?:\.\d*+)?|\.\d++)"
_SHOWN = 60

_UNSUPPORTED = (
    (re.compile(r"<(?:lora|lyco|locon)(?::[^<>]*+)>", re.IGNORECASE), "load LoRAs with pipe.load_lora_weights"),
    (re.compile(r"<hypernet:[^<>]*+>", re.IGNORECASE), "hypernetworks are not supported, so leave it out"),
    (re.compile(r"\bembedding:[\w./-]++"), "load textual inversions with pipe.load_textual_inversion"),
    (
        re.compile(rf"(?<!\\)\[(?:[^\[\]\\:]|\\.|:)*?:\s*+{_NUMBER}\s*+\]"),
        "every step reads the same prompt, so write the words that count",
    ),
    (
        re.compile(r"(?<!\\)\[[^\[\]|\\]*+\|[^\[\]]*+\]"),
        "every step reads the same prompt, so choose one of the words",
    ),
    (re.compile(r"(?<!\\)\{[^{}|\\]*+\|[^{}]*+\}"), "choose one of the words"),
    (re.compile(r"(?<!\w)__[A-Za-z0-9][\w/*-]{0,80}?__(?!\w)"), "wildcards are not filled in, so write the words"),
)
"""Patterns that take linear time, and what to do instead."""

_KEYWORDS = (
    (re.compile(r"(?<!\S)BREAK(?!\S)"), "the language model reads the whole prompt at once, so leave it out"),
    (re.compile(r"(?<=\s)AND(?=\s)"), "prompts are not composed, so write one sentence"),
)
"""Words that are syntax in capitals, unless the whole prompt is in capitals."""


def warn_of_unsupported_syntax(prompt: str) -> None:
    """Warns, once per prompt, of web-UI syntax in it that is read as plain text, and says what to do instead.

    The syntax is: ``<lora:name:0.8>``, ``<hypernet:name:1>``, ``embedding:name``, ``[a:b:0.5]`` and ``[a|b]`` (prompt
    editing), ``{a|b}`` and ``__name__`` (dynamic prompts), ``BREAK`` and ``AND``.

    Example:
        >>> warn_of_unsupported_syntax("a cup <lora:x:1>")
        UserWarning: web-UI syntax '<lora:x:1>' is read as plain text: load LoRAs with pipe.load_lora_weights
    """
    found = "; ".join(f"{syntax!r} is read as plain text: {remedy}" for syntax, remedy in find_unsupported(prompt))
    if found:
        _warn_once(hash(prompt), found)


def find_unsupported(prompt: str) -> Iterator[tuple[str, str]]:
    """Yields the first piece of each kind of unsupported syntax in a prompt, and what to do instead."""
    for pattern, remedy in _UNSUPPORTED:
        if match := pattern.search(prompt):
            yield _shortened(match.group()), remedy
    for pattern, remedy in _KEYWORDS:
        if (match := pattern.search(prompt)) and not pattern.sub("", prompt).isupper():
            yield match.group(), remedy


@functools.lru_cache(maxsize=4096)
def _warn_once(prompt_hash: int, found: str) -> None:
    warnings.warn(f"web-UI syntax {found}", stacklevel=4)


def _shortened(syntax: str) -> str:
    return syntax if len(syntax) <= _SHOWN else f"{syntax[: _SHOWN - 1]}…"
