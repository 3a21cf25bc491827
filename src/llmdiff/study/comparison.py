"""How often a system wins against another, and how sure that is.

A vote is 1 for the system that was preferred, 0 for the other, 1/2 for each where they were equal or both bad. Raters
and pictures are both samples, of people and of prompts, so intervals resample both (the pigeonhole bootstrap of Owen,
2007), which is cautious: it never counts ten votes of one rater as those of ten raters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import ceil

import numpy as np

from llmdiff.study.config import Question
from llmdiff.study.plan import Study
from llmdiff.study.raters import preferred
from llmdiff.study.votes import Vote

_DRAWS = 4000
_Z = 1.959964
_CLEAR = 0.05  # a preference of 55 to 45
_CHUNK = 2_000_000  # numbers of a bootstrap that are held at once


@dataclass(frozen=True)
class Comparison:
    """Two systems under one question.

    Attributes:
        question: Of `QUESTIONS`.
        systems: The first and the second.
        votes: How many count.
        raters: Of whom.
        prompts: Distinct prompts.
        wins, losses, equal, neither: Votes for the first, for the second, and for neither, in numbers.
        share: Mean vote for the first; 1/2 is a draw.
        low, high: Its 95 % interval.
        missing: Votes like these that would decide it if the share stays what it is; 0 if it is decided, None if the
            share is a draw, which no number decides.
        missing_clear: Votes that would decide it if the true share were 55 to 45.
    """

    question: Question
    systems: tuple[str, str]
    votes: int
    raters: int
    prompts: int
    wins: int
    losses: int
    equal: int
    neither: int
    share: float
    low: float
    high: float
    missing: int | None
    missing_clear: int

    @property
    def verdict(self) -> str:
        """The system that is preferred, or "undecided"."""
        return self.systems[0] if self.low > 0.5 else self.systems[1] if self.high < 0.5 else "undecided"


def compare(study: Study, votes: Sequence[Vote], seed: int = 0) -> list[Comparison]:
    """Every two systems under every question, of the votes that count; those nobody has compared are left out.

    Args:
        study: The study.
        votes: As `counted` has them.
        seed: Of the bootstrap.

    Example:
        >>> compare(Study.load(Path("study")), [])
        []
    """
    found = []
    for question in study.questions:
        for systems in combinations(study.systems, 2):
            own = [
                vote for vote in votes
                if vote.question == question and {shown.system for shown in study.sides(vote.trial)} == set(systems)
            ]  # fmt: skip
            if own:
                found.append(_compared(study, question, systems, own, seed))
    return found


def _compared(
    study: Study, question: Question, systems: tuple[str, str], votes: Sequence[Vote], seed: int
) -> Comparison:
    answers = [preferred(study, vote) for vote in votes]
    counts = {name: answers.count(name) for name in (*systems, "(equal)", "(neither)")}
    values = np.array([{systems[0]: 1.0, systems[1]: 0.0}.get(answer, 0.5) for answer in answers])
    raters = numbered([vote.rater for vote in votes])
    prompts = numbered([study.pair(vote.trial).prompt for vote in votes])
    share = float(values.mean())
    low, high = two_way_interval(values, raters, prompts, seed)
    width = max(high - low, 1e-9) / 2
    decided = low > 0.5 or high < 0.5
    distance = abs(share - 0.5)
    missing = 0 if decided else None if distance < 1e-6 else _more(len(votes), width, distance)
    return Comparison(
        question, systems, len(votes), len(set(raters)), len(set(prompts)),
        counts[systems[0]], counts[systems[1]], counts["(equal)"], counts["(neither)"],
        share, low, high, missing, _more(len(votes), width, _CLEAR),
    )  # fmt: skip


def _more(votes: int, width: float, distance: float) -> int:
    """Votes beyond these until an interval of this half width is shorter than a distance; it shrinks with the root."""
    return max(0, ceil(votes * (width / distance) ** 2) - votes)


def two_way_interval(
    values: np.ndarray, raters: Sequence[int], prompts: Sequence[int], seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the mean of votes: raters and prompts are both resampled.

    Args:
        values: Votes. (V,).
        raters: The number of each one's rater. (V,).
        prompts: The number of each one's prompt. (V,).
        seed: Of the resampling.

    Returns:
        Lower and upper end; that of Wilson's interval for a single vote or for votes that are all alike, of which no
        resampling knows more.

    Example:
        >>> low, high = two_way_interval(np.array([1.0, 0.0] * 50), [0] * 100, list(range(100)))
        >>> low < 0.5 < high
        True
    """
    if len(values) < 2 or np.ptp(values) == 0:
        return _wilson(float(values.mean()), len(values))
    rng = np.random.default_rng(seed)
    rater, prompt = np.asarray(raters), np.asarray(prompts)
    means: list[np.ndarray] = []
    step = max(1, _CHUNK // len(values))
    for first in range(0, _DRAWS, step):
        draws = min(step, _DRAWS - first)
        weights = (
            _resampled(rng, rater.max() + 1, draws)[:, rater] * _resampled(rng, prompt.max() + 1, draws)[:, prompt]
        )
        whole = weights.sum(1)
        means.append((weights @ values)[whole > 0] / whole[whole > 0])
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return float(low), float(high)


def _resampled(rng: np.random.Generator, count: int, draws: int) -> np.ndarray:
    """How often each of so many is drawn with replacement; a single one is all there is. (draws, count)."""
    return rng.multinomial(count, np.full(count, 1 / count), size=draws).astype(np.float64)


def _wilson(share: float, count: int) -> tuple[float, float]:
    middle = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z * np.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2)) / (1 + _Z**2 / count)
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))


def numbered(names: Sequence[str]) -> list[int]:
    """Numbers from 0 for names, in the order in which they come."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(name, len(numbers)) for name in names]
