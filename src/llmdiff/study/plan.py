"""A study as it is kept in its folder: which pictures make a pair, and what each rater is shown of them."""

import hashlib
import random
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llmdiff.errors import LLMDiffError
from llmdiff.files import open_regular, read_text, why_not, written_whole
from llmdiff.structured_text import LARGEST_JSON, parse_json
from llmdiff.study.config import Question
from llmdiff.validation_errors import first_problem

MANIFEST = "study.json"
PICTURES = "pictures"

_FEWEST_CHECKS = 5  # of one rater, where there are any: of fewer a careless rater may pass all by chance
_Kind = Literal["pair", "repeat", "check"]


class Shown(BaseModel):
    """One picture of a pair: the system that drew it, and the random name of its file, which tells nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str
    picture: str = Field(pattern=r"^[0-9a-f]{16}$")


class Pair(BaseModel):
    """Two pictures of one prompt. Of a check, the first is the right answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str
    name: str
    """Of the picture, the same in all systems: line, prompt and seed of what llmdiff has drawn."""
    pictures: tuple[Shown, Shown]


class Trial(BaseModel):
    """What a rater is shown at a time.

    Attributes:
        kind: "pair", its "repeat" with sides exchanged, or a "check".
        index: Of the pair among the study's pairs, or of the check among its checks.
        flipped: Whether the second picture of the pair stands on the left.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: _Kind
    index: int = Field(ge=0)
    flipped: bool


class Study(BaseModel):
    """A study; `folder` is where it lies.

    Example:
        >>> study = Study.load(Path("study"))
        >>> {trial.kind for trial in study.trials_for("somebody", shown={})} == {"pair", "repeat", "check"}
        True
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    title: str
    questions: tuple[Question, ...]
    systems: tuple[str, ...]
    trials: int
    repeats: float
    seed: int
    pairs: tuple[Pair, ...] = Field(min_length=1)
    checks: tuple[Pair, ...]
    folder: Path = Field(default=Path(), exclude=True)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The study of a folder.

        Raises:
            LLMDiffError: There is none, or it cannot be read.
        """
        path = folder / MANIFEST
        try:
            text = read_text(open_regular(path), LARGEST_JSON)
        except FileNotFoundError as error:
            raise LLMDiffError(f"There is no study in {folder}: make one by `llmdiff study new`.") from error
        except (OSError, UnicodeError) as error:
            raise LLMDiffError(f"The study {path} cannot be read ({why_not(error)}).") from error
        try:
            content = parse_json(text, f"The study {path}", "make it again")
            study = cls.model_validate(content, strict=False)
        except ValidationError as error:
            raise LLMDiffError(f"The study {path} is damaged: {first_problem(error)}; make it again.") from error
        return study.model_copy(update={"folder": folder})

    @property
    def identity(self) -> str:
        """Its name in cookies and files of answers: of its pictures, which are named at random."""
        names = [shown.picture for pair in (*self.pairs, *self.checks) for shown in pair.pictures]
        return hashlib.sha256(" ".join(names).encode()).hexdigest()[:16]

    def save(self) -> None:
        """Writes the study into its folder."""
        with written_whole(self.folder / MANIFEST) as draft:
            draft.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    def pair(self, trial: Trial) -> Pair:
        """The pair that a trial shows."""
        return (self.checks if trial.kind == "check" else self.pairs)[trial.index]

    def sides(self, trial: Trial) -> tuple[Shown, Shown]:
        """The pictures on the left and on the right of a trial."""
        first, second = self.pair(trial).pictures
        return (second, first) if trial.flipped else (first, second)

    def picture(self, name: str) -> Path:
        """The file of a picture."""
        return self.folder / PICTURES / f"{name}.png"

    def check_pictures(self) -> None:
        """Nothing, if all pictures are there.

        Raises:
            LLMDiffError: One is missing.
        """
        for pair in (*self.pairs, *self.checks):
            for shown in pair.pictures:
                if not self.picture(shown.picture).is_file():
                    raise LLMDiffError(
                        f"The picture {self.picture(shown.picture)} of the study is missing: restore it, or make the "
                        "study again."
                    )

    def trials_for(self, rater: str, shown: Mapping[int, int]) -> list[Trial]:
        """What one rater is shown, in order: the pairs that were shown least, each side as often left as right.

        Args:
            rater: Random name of the rater, which decides all that is left to chance.
            shown: How often each pair was shown to others.
        """
        rng = random.Random(f"{self.seed} {rater}")
        order = sorted(range(len(self.pairs)), key=lambda index: (shown.get(index, 0), rng.random()))
        chosen = order[: self.trials]
        rng.shuffle(chosen)
        flips = _balanced(len(chosen), rng)
        trials = [Trial(kind="pair", index=i, flipped=f) for i, f in zip(chosen, flips, strict=True)]
        trials += [_again(trial) for trial in _repeated(trials, self.repeats)]
        return _with_checks(trials, self._checks_for(rng), rng)

    def _checks_for(self, rng: random.Random) -> list[Trial]:
        numbers = list(range(len(self.checks)))
        rng.shuffle(numbers)
        flips = _balanced(len(numbers), rng)
        return [Trial(kind="check", index=i, flipped=f) for i, f in zip(numbers, flips, strict=True)]


def checks_needed(trials: int, share: float) -> int:
    """How many checks go with so many pairs."""
    return 0 if share == 0 else max(_FEWEST_CHECKS, ceil(share * trials))


def _balanced(count: int, rng: random.Random) -> list[bool]:
    flips = [number % 2 == 1 for number in range(count)]
    if count % 2 and rng.random() < 0.5:
        flips = [not flip for flip in flips]
    rng.shuffle(flips)
    return flips


def _repeated(trials: list[Trial], share: float) -> list[Trial]:
    """The first ones: their repeats, at the end, are as far from them as can be."""
    return trials[: ceil(share * len(trials))]


def _again(trial: Trial) -> Trial:
    return Trial(kind="repeat", index=trial.index, flipped=not trial.flipped)


def _with_checks(trials: list[Trial], checks: list[Trial], rng: random.Random) -> list[Trial]:
    """Checks spread evenly, each at random within its stretch, so that none of it can be waited for."""
    mixed = list(trials)
    for number, check in reversed(list(enumerate(checks))):
        low, high = (len(trials) * n // len(checks) for n in (number, number + 1))
        mixed.insert(rng.randint(low, max(low, high)), check)
    return mixed
