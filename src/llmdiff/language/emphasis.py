"""Prompt weights in the syntax that Stable Diffusion web UIs made usual.

``(word:1.3)`` weighs 1.3; ``(word)`` 1.1 and ``[word]`` 1 / 1.1, multiplied when nested; ``\\(`` is a parenthesis. What
is not closed, or not of this form, is text; so are the schedules ``[a:b:0.5]`` and the alternations ``[a|b]`` of those
web UIs, see `llmdiff.language.webui`.
"""

import re
from collections.abc import Iterator

from llmdiff.errors import LLMDiffError

STEP = 1.1

LARGEST = 10.0
"""The largest absolute value of a weight, brackets multiplied. Web UIs advise weights up to 2; ten times the vectors of
an encoding, which a LayerNorm leaves, are still far from what float16 holds (65,504)."""

_SHOWN = 30

_PARTS = re.compile(
    r"""
    \\[()\[\]\\]                                                             # an escaped bracket
    | :\s*+ [+-]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d++)? \s*+ [)\]]     # a number and the end of its bracket
    | [()\[\]|]
    | [^\\()\[\]:|]+
    | .
    """,
    re.VERBOSE | re.DOTALL,
)


def parse(prompt: str) -> tuple[str, list[float]]:
    """Returns a prompt without its weights, and the weight of each of its characters, in time linear in its length.

    Raises:
        LLMDiffError: if a weight, brackets multiplied, is not between ``-LARGEST`` and ``LARGEST``.

    Example:
        >>> parse("a (cat:1.5)")
        ('a cat', [1.0, 1.0, 1.5, 1.5, 1.5])
    """
    texts: list[str] = []
    weights: list[float] = []
    for text, weight in _weighted(prompt):
        if not abs(weight) <= LARGEST:  # nor is nan, which is infinity times zero
            raise LLMDiffError(
                f"The prompt weight {weight:.10g} of {text[:_SHOWN]!r} is out of range: keep weights, which multiply "
                f"where brackets are nested, between {-LARGEST:g} and {LARGEST:g}."
            )
        texts.append(text)
        weights.extend([weight] * len(text))
    return "".join(texts), weights


def plain(prompt: str) -> str:
    """Returns a prompt without its weights, as a text encoder that knows none should read it.

    Example:
        >>> plain("a (red:1.3) [cup]")
        'a red cup'
    """
    return "".join(text for text, _ in _weighted(prompt))


def _weighted(prompt: str) -> Iterator[tuple[str, float]]:
    """The pieces of a prompt's text, in order, each with its weight."""
    parts: list[str] = _PARTS.findall(prompt)
    factors = _factors(parts)
    open_weights = [1.0]
    for place, part in enumerate(parts):
        if place not in factors:
            yield _literal(part), open_weights[-1]
        elif part in "([":
            open_weights.append(open_weights[-1] * factors[place])
        else:
            open_weights.pop()


def _factors(parts: list[str]) -> dict[int, float]:
    """The places of the brackets that are weights, with their weights."""
    factors: dict[int, float] = {}
    open_at: list[int] = []
    alternating: set[int] = set()  # the brackets in which a "|" stands
    for place, part in enumerate(parts):
        if part in ("(", "["):
            open_at.append(place)
        elif part == "|" and open_at:
            alternating.add(open_at[-1])
        elif open_at and _closes(part, parts[open_at[-1]]):
            begin = open_at.pop()
            schedules = parts[begin] == "[" and (len(part) > 1 or begin in alternating)
            if not schedules:
                factors[begin] = factors[place] = _factor(part)
    return factors


def _closes(part: str, opening: str) -> bool:
    return part[0] != "\\" and part[-1] == {"(": ")", "[": "]"}[opening]


def _factor(part: str) -> float:
    if part == "]":
        return 1 / STEP
    return STEP if part == ")" else float(part[1:-1])


def _literal(part: str) -> str:
    return part[1:] if len(part) == 2 and part[0] == "\\" else part
