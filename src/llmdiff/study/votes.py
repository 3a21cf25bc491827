"""The votes of a study, in an SQLite file beside it; each is on the disk before its rater is told so."""

import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from llmdiff.errors import LLMDiffError
from llmdiff.study.config import Question
from llmdiff.study.plan import Study, Trial

FILE = "votes.sqlite"
Answer = Literal["left", "right", "equal", "neither"]
_SCHEMA = """
CREATE TABLE IF NOT EXISTS study (identity TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS raters (rater TEXT PRIMARY KEY, trials TEXT NOT NULL, started REAL NOT NULL);
CREATE TABLE IF NOT EXISTS votes (
    rater TEXT NOT NULL REFERENCES raters, trial INTEGER NOT NULL, question TEXT NOT NULL, answer TEXT NOT NULL,
    milliseconds INTEGER NOT NULL, at REAL NOT NULL, PRIMARY KEY (rater, trial, question)
);
"""
_MOST_RATERS = 100_000
_LONGEST_MS = 24 * 3600 * 1000


class Ballot(BaseModel):
    """The answers to one trial, and the milliseconds from when it was seen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    answers: dict[Question, Answer] = Field(min_length=1)
    milliseconds: int = Field(default=0, ge=0, lt=2**53)


@dataclass(frozen=True)
class Vote:
    """One answer.

    Attributes:
        rater: Random name of who gave it.
        trial: What was shown.
        question: What was asked.
        answer: A side as it was shown, "equal", or "neither" (both are bad).
        milliseconds: From when the pictures were seen to the answer.
    """

    rater: str
    trial: Trial
    question: Question
    answer: Answer
    milliseconds: int


class Votes:
    """The raters and votes of a study; may be used by many threads, and by another process that reads meanwhile.

    Raises:
        LLMDiffError: The file cannot be read or written, or has the votes of another study.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._path = study.folder / FILE
        self._lock = threading.Lock()
        self._shown: Counter[int] = Counter()
        self._counted = 0  # the last row of a rater whose pairs are among these
        with self._telling():
            self._database = sqlite3.connect(self._path, check_same_thread=False, timeout=30)
            self._database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;" + _SCHEMA)
            self._claim()

    def _claim(self) -> None:
        """Makes the file this study's, which another one's is not."""
        identity = self._study.identity
        with self._database:
            self._database.execute("INSERT INTO study SELECT ? WHERE NOT EXISTS (SELECT * FROM study)", (identity,))
        if self._database.execute("SELECT identity FROM study").fetchone() != (identity,):
            self.close()
            raise LLMDiffError(
                f"The votes {self._path} are of another study, which was in this folder: move them elsewhere."
            )

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def trials(self, rater: str) -> list[Trial] | None:
        """What a rater is shown; None if nobody of this name has begun."""
        with self._telling(), self._lock:
            row = self._database.execute("SELECT trials FROM raters WHERE rater = ?", (rater,)).fetchone()
        return None if row is None else self._trials(row[0])

    def begin(self, rater: str) -> list[Trial]:
        """Has a rater begin, with the pairs that the others were shown least.

        Raises:
            LLMDiffError: There are too many raters.
        """
        return self.add_rater(rater, self._study.trials_for)

    def add_rater(self, rater: str, choose: Callable[[str, Mapping[int, int]], list[Trial]]) -> list[Trial]:
        """As `begin`, with trials chosen by the caller from the rater's name and how often each pair was shown."""
        with self._telling(), self._lock, self._database:
            self._database.execute("BEGIN IMMEDIATE")
            known = self._database.execute("SELECT trials FROM raters WHERE rater = ?", (rater,)).fetchone()
            if known is not None:
                return self._trials(known[0])
            self._count_shown()
            if self._counted >= _MOST_RATERS:
                raise LLMDiffError(f"The study has {_MOST_RATERS:,} raters: it takes no more.")
            trials = choose(rater, self._shown)
            text = json.dumps([trial.model_dump() for trial in trials])
            self._database.execute("INSERT INTO raters VALUES (?, ?, ?)", (rater, text, time.time()))
        return trials

    def _count_shown(self) -> None:
        """Counts how often each pair was shown to the raters who have begun since it was counted last."""
        rows = self._database.execute("SELECT rowid, trials FROM raters WHERE rowid > ?", (self._counted,)).fetchall()
        for row, text in rows:
            self._shown.update(trial.index for trial in self._trials(text) if trial.kind == "pair")
            self._counted = max(self._counted, row)

    def add(self, rater: str, ballots: Mapping[int, Ballot]) -> None:
        """Writes what a rater answers to trials; answers that were given before are replaced."""
        rows = [
            (rater, trial, question, answer, min(ballot.milliseconds, _LONGEST_MS), time.time())
            for trial, ballot in ballots.items()
            for question, answer in ballot.answers.items()
        ]
        with self._telling(), self._lock, self._database:
            self._database.executemany("INSERT OR REPLACE INTO votes VALUES (?, ?, ?, ?, ?, ?)", rows)

    def answers(self, rater: str) -> dict[int, dict[str, str]]:
        """What a rater has answered: by trial and question."""
        with self._telling(), self._lock:
            rows = self._database.execute(
                "SELECT trial, question, answer FROM votes WHERE rater = ? ORDER BY trial", (rater,)
            ).fetchall()
        answers: dict[int, dict[str, str]] = {}
        for trial, question, answer in rows:
            answers.setdefault(trial, {})[question] = answer
        return answers

    def all(self) -> list[Vote]:
        """Every vote."""
        with self._telling(), self._lock:
            raters = self._database.execute("SELECT rater, trials FROM raters").fetchall()
            rows = self._database.execute(
                "SELECT rater, trial, question, answer, milliseconds FROM votes ORDER BY rater, trial, question"
            ).fetchall()
        trials = {rater: self._trials(text) for rater, text in raters}
        try:
            return [
                Vote(rater, trials[rater][trial], question, answer, ms) for rater, trial, question, answer, ms in rows
            ]
        except (LookupError, TypeError) as error:
            raise self._unusable("a vote is on what nobody was shown") from error

    def _trials(self, text: str) -> list[Trial]:
        """Trials that were written down, all of which the study has."""
        try:
            trials = [Trial.model_validate(one) for one in json.loads(text)]
            for trial in trials:
                self._study.pair(trial)
        except (LookupError, TypeError, ValueError) as error:
            raise self._unusable("it speaks of pairs that the study does not have") from error
        return trials

    def _unusable(self, why: str) -> LLMDiffError:
        return LLMDiffError(f"The votes {self._path} cannot be used ({why}); check the file and the disk.")

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._unusable(str(error)) from error
