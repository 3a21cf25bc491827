"""Prompt weights in the syntax that Stable Diffusion web UIs made usual.

``(word:1.3)`` weighs 1.3; ``(word)`` 1.1 and ``[word]`` 1 / 1.1, multiplied when nested; ``\\(`` is a parenthesis. What
is not closed, or not of this form, is text.
"""

import re
from collections.abc import Sequence

STEP = 1.1

_PARTS = re.compile(r"\\[()\[\]\\]|:\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*\)|[()\[\]]|[^\\()\[\]:]+|.", re.DOTALL)


def parse(prompt: str) -> tuple[str, list[float]]:
    """A prompt without its weights, and the weight of each of its characters."""
    text: list[str] = []
    weights: list[float] = []
    open_at: list[tuple[str, int]] = []  # brackets that are open, with where in `text` they stand
    for part in _PARTS.findall(prompt):
        if part in "([":
            open_at.append((part, len(text)))
            _add(text, weights, part)
        elif _closes(part, open_at):
            _, begin = open_at.pop()
            del text[begin], weights[begin]
            factor = _factor(part)
            weights[begin:] = [weight * factor for weight in weights[begin:]]
        else:
            literal = part[1:] if len(part) == 2 and part[0] == "\\" else part
            _add(text, weights, literal)
    return "".join(text), weights


def plain(prompt: str) -> str:
    """A prompt without its weights."""
    return parse(prompt)[0]


def _closes(part: str, open_at: Sequence[tuple[str, int]]) -> bool:
    """Whether a part of a prompt closes the bracket that was opened last."""
    return bool(open_at) and open_at[-1][0] == {")": "(", "]": "["}.get(part[-1]) and (part[0] != "\\")


def _factor(part: str) -> float:
    if part == "]":
        return 1 / STEP
    return STEP if part == ")" else float(part[1:-1])


def _add(text: list[str], weights: list[float], part: str) -> None:
    text.extend(part)
    weights.extend([1.0] * len(part))
