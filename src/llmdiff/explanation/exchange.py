"""How far an encoding moves when a word of its prompt is exchanged or left out.

Letters in shapes: n words, D LLM width.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.explanation.words import Word, check_exchanged, tokens_of, words_of
from llmdiff.language.spans import Span, prompt_spans


@dataclass(frozen=True)
class Exchanges:
    """How far each word's vectors move when another word is exchanged.

    Attributes:
        words: n of them.
        replacements: what was put in the place of each; empty where it was left out.
        moved: (n, n), in row i how far word j moves when word i is exchanged, in units of its own length; nan of word i
            itself. A causal LLM without a refiner moves only what comes after the word.
    """

    words: tuple[Word, ...]
    replacements: tuple[str, ...]
    moved: np.ndarray

    def totals(self) -> np.ndarray:
        """(n,), the mean over the other words; 0 of a word without any beside it."""
        others = np.nan_to_num(self.moved)
        return others.sum(1) / max(1, len(self.words) - 1)


def exchange_words(adapter: LLMDiffAdapter, prompt: str, replacements: Mapping[str, str] | None = None) -> Exchanges:
    """Exchanges one word of a prompt after the other, and measures how far the vectors of all others move.

    Args:
        adapter: whose encoding is asked for, refined if it has a refiner.
        prompt: without weights of words.
        replacements: what to put in the place of a word; one that is not named is left out **[choice]**.

    Raises:
        LLMDiffError: A word to be exchanged is not in the prompt.

    Example:
        >>> found = exchange_words(adapter, "a red cup", {"red": "blue"})
        >>> found.moved.shape
        (3, 3)
    """
    words, replacements = words_of(prompt), replacements or {}
    check_exchanged(prompt, replacements)
    before = word_vectors(adapter, prompt, words)
    chosen = tuple(replacements.get(word.text, "") for word in words)
    moved = np.full((len(words), len(words)), np.nan, dtype=np.float32)
    for number, replacement in enumerate(chosen):
        text, spans = exchanged(prompt, words, number, replacement)
        after = word_vectors(adapter, text, spans)
        distances = np.linalg.norm(after - before, axis=1) / np.maximum(np.linalg.norm(before, axis=1), 1e-9)
        moved[number] = np.where(np.arange(len(words)) == number, np.nan, distances)
    return Exchanges(tuple(words), chosen, moved)


def exchanged(prompt: str, words: Sequence[Word], number: int, replacement: str) -> tuple[str, list[Word]]:
    """A prompt with another text in the place of a word, and where its words stand then.

    A word that is left out takes the space before it along, or, the first one, that after it.

    Example:
        >>> exchanged("a red cup", words_of("a red cup"), 1, "")[0]
        'a cup'
    """
    begin, end = words[number].begin, words[number].end
    if not replacement:
        if begin and prompt[begin - 1].isspace():
            begin -= 1
        elif end < len(prompt) and prompt[end].isspace():
            end += 1
    shift = len(replacement) - (end - begin)
    moved = [Word(one.text, one.begin + shift, one.end + shift) for one in words[number + 1 :]]
    here = Word(replacement, begin, begin + len(replacement))
    return prompt[:begin] + replacement + prompt[end:], [*words[:number], here, *moved]


def word_vectors(adapter: LLMDiffAdapter, prompt: str, words: Sequence[Word]) -> np.ndarray:
    """The mean vector of each word in the encoding of a prompt, (n, D), zeros of a word that is not read."""
    with plain_prompts(adapter):
        embeds = adapter.encode([prompt]).embeds[0].float().cpu()
    spans: Sequence[Span | None] = prompt_spans(adapter.llm, prompt, adapter.config.reading).spans
    tokens = tokens_of(words, spans)
    rows = [embeds[numbers].mean(0) if numbers else embeds.new_zeros(embeds.shape[1]) for numbers in tokens]
    return (torch.stack(rows) if rows else embeds[:0]).numpy()


@contextmanager
def plain_prompts(adapter: LLMDiffAdapter) -> Iterator[None]:
    """Within this context, brackets are text."""
    before, adapter.prompt_weights = adapter.prompt_weights, False
    try:
        yield
    finally:
        adapter.prompt_weights = before
