"""What many votes say together: how far raters agree, and the strength of every system."""

from collections.abc import Sequence

import numpy as np

from llmdiff.study.comparison import numbered
from llmdiff.study.config import Question
from llmdiff.study.plan import Study
from llmdiff.study.raters import preferred
from llmdiff.study.votes import Vote


def alpha(study: Study, votes: Sequence[Vote], question: Question) -> float | None:
    """Krippendorff's α of the raters on one question, for nominal answers; None where no two saw the same pair."""
    import krippendorff

    own = [vote for vote in votes if vote.question == question]
    answers = numbered([preferred(study, vote) for vote in own])
    raters = numbered([vote.rater for vote in own])
    pairs = numbered([str(vote.trial.index) for vote in own])
    if not own or len(set(pairs)) == len(own) or len(set(answers)) < 2:
        return None
    table = np.full((max(raters) + 1, max(pairs) + 1), np.nan)
    table[raters, pairs] = answers
    return float(krippendorff.alpha(table, level_of_measurement="nominal"))


def bradley_terry(study: Study, votes: Sequence[Vote], question: Question) -> dict[str, float]:
    """Strength of each system, of all comparisons at once (Bradley and Terry, 1952); they add up to 1."""
    import evalica

    own = [vote for vote in votes if vote.question == question]
    sides = [study.sides(vote.trial) for vote in own]
    winner = {"left": evalica.Winner.X, "right": evalica.Winner.Y}
    result = evalica.bradley_terry(
        [left.system for left, _ in sides],
        [right.system for _, right in sides],
        [winner.get(vote.answer, evalica.Winner.Draw) for vote in own],
    )
    scores = {str(name): float(score) for name, score in result.scores.items()}
    whole = sum(scores.values())
    return {name: scores[name] / whole for name in study.systems if name in scores}
