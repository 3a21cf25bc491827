"""Choices that every writer of captions makes by lot: words, openings, endings."""

from typing import Protocol

import numpy as np

from llmdiff.scenes.lexicon import Words

OPENINGS = (
    "{}", "{}", "{}", "A picture of {}", "An illustration showing {}", "There is {}", "I see {}", "We can see {}",
    "A drawing of {}", "A children's book page with {}", "Please draw {}", "Imagine {}", "Here you find {}", "Paint {}",
)  # fmt: skip
CLOSINGS = (
    "", "", "", "", ", in a simple style", ", drawn for children", ", flat colours", ", so lovely",
)  # fmt: skip
LINKS = (" and ", " and also ", ", together with ", ", along with ", " as well as ", " plus ")


class Shares(Protocol):
    """How often a writer takes which words."""

    @property
    def held_out(self) -> float:
        """Chance of each word being one that training never sees."""

    @property
    def plain(self) -> float:
        """Chance of each word being the plain one."""


class Chooser:
    """Chooses words by lot."""

    def __init__(self, rng: np.random.Generator, shares: Shares) -> None:
        self.rng, self._shares = rng, shares

    def choose(self, words: Words, plain: str) -> str:
        """One of several ways to say a thing."""
        if self.chance(self._shares.held_out):
            return self.pick(words.held_out)
        return plain if self.chance(self._shares.plain) else self.pick(words.taught)

    def in_relation(self, a: str, b: str, forwards: str, backwards: str) -> str:
        """`a` in its relation to `b`, said from either side."""
        return self.pick((
            f"{a} {forwards} {b}",
            f"{a} {forwards} {b}",
            f"{b} with {a} {forwards} it",
            f"{b} {backwards} {a}",
            f"{a}, and {backwards} it {b}",
            f"{a} that is {forwards} {b}",
        ))  # fmt: skip

    def opened(self, body: str, where: str) -> str:
        """The body of a caption with its opening, and the background before or behind it."""
        if where and self.chance(0.15):
            return f"{where}, {body}"
        return self.pick(OPENINGS).format(f"{body}{self.pick((' ', ', ', ' all '))}{where}" if where else body)

    def finish(self, sentence: str) -> str:
        """A sentence with a capital or without, with a full stop or without."""
        if self.chance(0.4):
            sentence = sentence[0].upper() + sentence[1:]
        return sentence + self.pick(("", ".", ""))

    def pick(self, options: tuple[str, ...]) -> str:
        """One of several texts."""
        return options[int(self.rng.integers(len(options)))]

    def chance(self, p: float) -> bool:
        """True in that share of the cases."""
        return bool(self.rng.random() < p)
