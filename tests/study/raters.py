"""Raters of known preference, who vote as people do: by what they see."""

import random
from collections.abc import Callable

from llmdiff.study.plan import Study, Trial
from llmdiff.study.votes import Answer, Ballot, Votes

Rater = Callable[[Study, Trial, random.Random], Answer]


def prefers(system: str, share: float, equal: float = 0.1) -> Rater:
    """Names a system in this share of the answers that name one, and passes checks."""

    def vote(study: Study, trial: Trial, rng: random.Random) -> Answer:
        if trial.kind == "check":
            return "right" if trial.flipped else "left"
        if rng.random() < equal:
            return rng.choice(("equal", "neither"))
        left, _ = study.sides(trial)
        return "left" if (rng.random() < share) == (left.system == system) else "right"

    return vote


def careless(study: Study, trial: Trial, rng: random.Random) -> Answer:
    """Answers anything."""
    return rng.choice(("left", "right"))


def always_left(study: Study, trial: Trial, rng: random.Random) -> Answer:
    """Answers the left."""
    return "left"


def rate(study: Study, votes: Votes, name: str, rater: Rater, seed: int) -> None:
    """One rater answers all that they are shown."""
    rng = random.Random(f"{name} {seed}")
    votes.add(
        name,
        {
            number: Ballot(
                answers={question: rater(study, trial, rng) for question in study.questions}, milliseconds=1500
            )
            for number, trial in enumerate(votes.begin(name))
        },
    )
