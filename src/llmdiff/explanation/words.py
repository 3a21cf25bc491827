"""The words of a prompt, and the tokens that each of them became."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from llmdiff.errors import LLMDiffError

if TYPE_CHECKING:
    from llmdiff.language.spans import Span

MOST_WORDS = 64
"""Words of a prompt that can be explained."""

_JOINING = "'’-"
_OF_WORDS = ("L", "M", "N", "So", "Sk", "Cf")
"""Unicode's categories of letters, marks, numbers, emoji and what joins them."""
_WRITTEN_APART = ((0x3040, 0x30FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF))
"""Characters of Japanese and Chinese, between which there are no spaces: each is a word of its own."""


@dataclass(frozen=True)
class Word:
    """A word of a prompt: its text and where it stands, as a slice of the prompt."""

    text: str
    begin: int
    end: int


def words_of(prompt: str) -> list[Word]:
    """The words of a prompt, without punctuation; emoji are words, and so is each Chinese or Japanese character.

    Example:
        >>> [word.text for word in words_of("a fox's tail, well-lit 🦊")]
        ['a', "fox's", 'tail', 'well-lit', '🦊']
    """
    words: list[Word] = []
    for _, run in groupby(enumerate(prompt), lambda pair: _kind(*pair)):
        places = [place for place, _ in run]
        text = prompt[places[0] : places[-1] + 1]
        inner = text.strip(_JOINING)
        if inner and _is_of_words(inner[0]):
            begin = places[0] + text.index(inner)
            words.append(Word(inner, begin, begin + len(inner)))
    return words


def check_words(prompt: str) -> None:
    """Nothing, if a prompt has words, and not too many, to be explained.

    Raises:
        LLMDiffError: it has none, or more than 64.
    """
    count = len(words_of(prompt))
    if count == 0:
        raise LLMDiffError("The prompt has no word that could be explained: say what the picture should show.")
    if count > MOST_WORDS:
        raise LLMDiffError(f"The prompt has {count} words, and up to {MOST_WORDS} can be explained: shorten it.")


def check_exchanged(prompt: str, exchanged: Iterable[str]) -> None:
    """Nothing, if all words that are to be exchanged are in a prompt.

    Raises:
        LLMDiffError: one is not.
    """
    known = {word.text for word in words_of(prompt)}
    if missing := [word for word in exchanged if word not in known]:
        raise LLMDiffError(
            f"{missing[0]!r} is no word of the prompt {prompt!r}: exchange one of its words, as written."
        )


def tokens_of(words: Sequence[Word], spans: "Sequence[Span | None]") -> list[list[int]]:
    """The numbers of the tokens of each word: those whose last character is in it.

    Args:
        words: of a prompt.
        spans: of the tokens in the same prompt.

    Example:
        >>> tokens_of(words_of("a cup"), [(0, 1), (1, 3), (3, 5), None])
        [[0], [1, 2]]
    """
    last = [None if span is None or span[0] == span[1] else span[1] - 1 for span in spans]
    return [[n for n, at in enumerate(last) if at is not None and word.begin <= at < word.end] for word in words]


def sum_of_words(values: np.ndarray, tokens: Sequence[Sequence[int]]) -> np.ndarray:
    """The sum over the tokens of each word: (S, ...) to (n, ...), zeros of a word without tokens."""
    sums = [values[list(numbers)].sum(0) for numbers in tokens]
    return np.stack(sums) if sums else values[:0]


def _kind(place: int, character: str) -> object:
    """Neighbours of one kind are one word, or between words."""
    if any(first <= ord(character) <= last for first, last in _WRITTEN_APART):
        return place
    return character in _JOINING or _is_of_words(character)


def _is_of_words(character: str) -> bool:
    category = unicodedata.category(character)
    return category.startswith(("L", "M", "N")) or category in _OF_WORDS
