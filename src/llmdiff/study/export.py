"""A study as one file that people open anywhere, and the files of answers that they send back."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llmdiff.errors import LLMDiffError
from llmdiff.files import open_regular, read_text, why_not, written_whole
from llmdiff.generation import read_picture
from llmdiff.structured_text import LARGEST_JSON, parse_json
from llmdiff.study.config import QUESTIONS
from llmdiff.study.plan import Pair, Study, Trial
from llmdiff.study.server import page
from llmdiff.study.votes import Ballot, Votes
from llmdiff.validation_errors import first_problem

_LOSSLESS = 256  # pixels of a side, up to which pictures are kept bit by bit
_QUALITY = 95


def export_page(study: Study, path: Path) -> None:
    """Writes a page with all pictures in it, which needs no server; a file of answers comes back from it.

    Pictures of more than 256 pixels a side are WebP of quality 95 in it, those of both systems alike.

    Args:
        study: The study.
        path: Of the page.

    Raises:
        LLMDiffError: A picture is missing or cannot be read.

    Example:
        >>> export_page(Study.load(Path("study")), Path("study.html"))
    """
    study.check_pictures()
    content = {
        "study": study.identity,
        "title": study.title,
        "questions": [(name, QUESTIONS[name]) for name in study.questions],
        "each": study.trials,
        "repeats": study.repeats,
        "trials": [_embedded(study, pair) for pair in study.pairs],
        "checks": [_embedded(study, pair) for pair in study.checks],
    }
    text = json.dumps(content).replace("<", "\\u003c")  # nothing in a prompt ends the script
    with written_whole(path) as draft:
        draft.write_text(page().replace("/*STUDY*/", text), encoding="utf-8")


def collect_answers(study: Study, paths: Sequence[Path]) -> int:
    """Adds files of answers to the votes of a study; one that is added again replaces what it gave before.

    Args:
        study: The study that they answer.
        paths: The files.

    Returns:
        How many raters they are of.

    Raises:
        LLMDiffError: A file cannot be read, is of another study, or of a rater who was shown something else; then none
            of them is added.

    Example:
        >>> collect_answers(Study.load(Path("study")), [])
        0
    """
    answers = {path: _read(study, path) for path in paths}
    trials: dict[str, list[Trial]] = {}
    votes = Votes(study)
    try:
        for path, one in answers.items():
            known = trials.setdefault(one.rater, votes.trials(one.rater) or one.shown(study))
            if known != one.shown(study):
                raise LLMDiffError(f"{path} is of a rater who was shown something else; ask for it again.")
        for one in answers.values():
            votes.add_rater(one.rater, lambda rater, shown: trials[rater])
            votes.add(one.rater, one.votes)
    finally:
        votes.close()
    return len(trials)


class _Seen(BaseModel):
    """A trial of the page: a pair by its number, checks after all others."""

    model_config = ConfigDict(extra="forbid")

    item: int = Field(ge=0)
    flipped: bool


class _Answers(BaseModel):
    """A file of answers."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1]
    study: str
    rater: str = Field(pattern=r"^[0-9a-f]{32}$")
    trials: list[_Seen] = Field(max_length=10_000)
    votes: dict[int, Ballot]

    def shown(self, study: Study) -> list[Trial]:
        """The trials in the words of a study."""
        trials: list[Trial] = []
        seen: set[int] = set()
        for one in self.trials:
            is_check = one.item >= len(study.pairs)
            kind: Literal["pair", "repeat", "check"] = "check" if is_check else "repeat" if one.item in seen else "pair"
            index = one.item - len(study.pairs) if is_check else one.item
            trials.append(Trial(kind=kind, index=index, flipped=one.flipped))
            seen.add(one.item)
        return trials


def _read(study: Study, path: Path) -> _Answers:
    try:
        text = read_text(open_regular(path), LARGEST_JSON)
    except (OSError, UnicodeError) as error:
        raise LLMDiffError(f"The answers {path} cannot be read ({why_not(error)}).") from error
    content = parse_json(text, f"The file of answers {path}", "ask for it again")
    try:
        answers = _Answers.model_validate(content)
    except ValidationError as error:
        raise LLMDiffError(f"{path} is no file of answers ({first_problem(error)}); ask for it again.") from error
    if answers.study != study.identity:
        raise LLMDiffError(f"The answers {path} are of another study than {study.folder}.")
    pairs = len(study.pairs) + len(study.checks)
    if any(one.item >= pairs for one in answers.trials) or any(
        not 0 <= trial < len(answers.trials) or not given.answers.keys() <= set(study.questions)
        for trial, given in answers.votes.items()
    ):
        raise LLMDiffError(f"{path} has answers to what was not asked; ask for it again.")
    return answers


def _embedded(study: Study, pair: Pair) -> Mapping[str, object]:
    return {"prompt": pair.prompt, "pictures": [_data_url(study.picture(shown.picture)) for shown in pair.pictures]}


def _data_url(path: Path) -> str:
    image, _ = read_picture(path)
    if max(image.size) <= _LOSSLESS:
        return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
