"""Who rated, whether they can be relied on, and which of their votes count."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from llmdiff.study.plan import Study
from llmdiff.study.votes import Vote

_CHECKS_PASSED = 0.8
_FEWEST_CHECKS = 3
_ONE_SIDED = 1e-3  # two-sided binomial probability of so many answers on one side


@dataclass(frozen=True)
class Rater:
    """One rater, and whether their votes count.

    Attributes:
        name: Random.
        votes: How many they gave.
        checks: Right answers to checks, and how many they answered.
        agreement: Share of repeats that they answered as before; None if there were none.
        left: Share of the left side in answers that name a side; None if there are none.
        seconds: Median time of an answer.
        why_not: Why their votes do not count; empty if they do.
    """

    name: str
    votes: int
    checks: tuple[int, int]
    agreement: float | None
    left: float | None
    seconds: float
    why_not: str


def judge(study: Study, votes: Sequence[Vote]) -> list[Rater]:
    """The raters of a study, most votes first.

    Votes do not count of who failed more than a fifth of at least three checks, or named one side so often that chance
    does it once in a thousand.
    """
    by_rater: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        by_rater[vote.rater].append(vote)
    return sorted(
        (_rater(study, name, own) for name, own in by_rater.items()), key=lambda rater: (-rater.votes, rater.name)
    )


def _rater(study: Study, name: str, votes: Sequence[Vote]) -> Rater:
    checks = [
        vote.answer == ("right" if vote.trial.flipped else "left") for vote in votes if vote.trial.kind == "check"
    ]
    sides = [vote.answer == "left" for vote in votes if vote.answer in ("left", "right")]
    agreement = _agreement(study, votes)
    left = sum(sides) / len(sides) if sides else None
    why_not = ""
    if len(checks) >= _FEWEST_CHECKS and sum(checks) < _CHECKS_PASSED * len(checks):
        why_not = f"passed {sum(checks)} of {len(checks)} checks"
    elif left is not None and chance_of_sides(sum(sides), len(sides)) < _ONE_SIDED:
        why_not = f"named the left picture in {left:.0%} of {len(sides)} answers"
    seconds = float(np.median([vote.milliseconds for vote in votes])) / 1000
    return Rater(name, len(votes), (sum(checks), len(checks)), agreement, left, seconds, why_not)


def _agreement(study: Study, votes: Iterable[Vote]) -> float | None:
    first: dict[tuple[int, str], str] = {}
    again: dict[tuple[int, str], str] = {}
    for vote in votes:
        if vote.trial.kind != "check":
            (again if vote.trial.kind == "repeat" else first)[vote.trial.index, vote.question] = preferred(study, vote)
    same = [first[key] == again[key] for key in again if key in first]
    return sum(same) / len(same) if same else None


def chance_of_sides(count: int, total: int) -> float:
    """Two-sided probability of a count at least as far from the half by chance (the exact binomial test)."""
    tail = sum(comb(total, n) for n in range(min(count, total - count) + 1)) / 2**total
    return min(1.0, 2 * tail)


def preferred(study: Study, vote: Vote) -> str:
    """The system that a vote is for; "equal" or "neither" if for none."""
    if vote.answer in ("equal", "neither"):
        return f"({vote.answer})"  # no system of that name is taken for it
    return study.sides(vote.trial)[vote.answer == "right"].system


def counted(votes: Iterable[Vote], raters: Iterable[Rater]) -> list[Vote]:
    """The votes that count: on pairs, not repeats or checks, of raters who can be relied on."""
    reliable = {rater.name for rater in raters if not rater.why_not}
    return [vote for vote in votes if vote.rater in reliable and vote.trial.kind == "pair"]


def position_bias(votes: Iterable[Vote]) -> dict[str, float | int]:
    """How often the left side was named, of the answers that name a side, and how likely that is by chance."""
    sides = [vote.answer == "left" for vote in votes if vote.answer in ("left", "right")]
    if not sides:
        return {"answers": 0, "left": 0.5, "chance": 1.0}
    return {"answers": len(sides), "left": sum(sides) / len(sides), "chance": chance_of_sides(sum(sides), len(sides))}
