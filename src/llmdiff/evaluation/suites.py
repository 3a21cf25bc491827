"""Prompt suites of others, read from the user's own copy.

None of them is part of this package. Formats, and the layouts of `llmdiff.evaluation.suite_pictures`, are those of
the public repositories:

| suite | the user's copy | pictures, as its scorer reads them |
|---|---|---|
| geneval | `evaluation_metadata.jsonl` | `00000/metadata.jsonl`, `00000/samples/00000.png` … |
| dpg | folder of `ITEM.txt` | `ITEM.png`, its four pictures in a square |
| compbench | a `.txt`, a prompt a line | `samples/PROMPT_000000.png`, numbered through all prompts |
| unigenbench | `test_prompts_en.csv` and the like | `INDEX_0.png` … |
| parti | `PartiPrompts.tsv` | no scorer of its own |
| drawbench | `.csv` with a column Prompts | no scorer of its own |
| jsonl | objects with a `prompt`, one a line | no scorer of its own |
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmdiff.errors import LLMDiffError
from llmdiff.files import open_regular, read_text, why_not
from llmdiff.structured_text import parse_json

_LARGEST = 64 * 2**20  # bytes of a file of prompts


@dataclass(frozen=True)
class SuitePrompt:
    """One prompt of a suite.

    Attributes:
        name: By which the suite's scorer knows it: an item, an index, or its place.
        prompt: The text.
        row: All that the suite says of it.
    """

    name: str
    prompt: str
    row: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """How a suite is read, and how many pictures of each prompt its scorer expects."""

    read: Callable[[Path], list[SuitePrompt]]
    pictures: int


def read_suite(name: str, source: Path) -> list[SuitePrompt]:
    """The prompts of a suite in its own order.

    Args:
        name: One of `SUITES`.
        source: The user's copy, a file or (dpg) a folder.

    Raises:
        LLMDiffError: There is no such suite, the copy cannot be read, is of another form, or has no prompts.

    Example:
        >>> Path("evaluation_metadata.jsonl").write_text('{"tag": "colors", "prompt": "a photo of a red cup"}\\n')
        52
        >>> read_suite("geneval", Path("evaluation_metadata.jsonl"))[0].prompt
        'a photo of a red cup'
    """
    prompts = suite(name).read(source)
    if not prompts:
        raise LLMDiffError(f"{source} has no prompts.")
    if len({one.name for one in prompts}) < len(prompts):
        raise LLMDiffError(f"Two prompts of {source} have the same name: its scorer could not keep them apart.")
    return prompts


def suite(name: str) -> Suite:
    """The suite of that name; raises LLMDiffError with the names there are."""
    if name not in SUITES:
        raise LLMDiffError(f"There is no suite {name!r}: choose one of {', '.join(SUITES)}.")
    return SUITES[name]


def _jsonl(source: Path) -> list[SuitePrompt]:
    prompts = []
    for number, line in _lines(source):
        row = parse_json(line, f"Line {number} of {source}")
        if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
            raise LLMDiffError(f'Line {number} of {source} is not of the form {{"prompt": "a red cup"}}.')
        prompts.append((row["prompt"], row))
    return _placed(source, prompts)


def _text_lines(source: Path) -> list[SuitePrompt]:
    """Prompts, one a line; what follows a tab is not one."""
    return _placed(source, [(line.split("\t")[0].strip(), {}) for _, line in _lines(source)])


def _folder(source: Path) -> list[SuitePrompt]:
    if not source.is_dir():
        raise LLMDiffError(f"There is no folder {source}: give the one with a text file for each prompt.")
    found = [SuitePrompt(path.stem, _text(path).strip()) for path in sorted(source.glob("*.txt"))]
    return [_checked(source, one) for one in found]


def _table(
    columns: Sequence[str], *, name: str | None = None, tabs: bool = False
) -> Callable[[Path], list[SuitePrompt]]:
    """A reader of tables.

    Args:
        columns: Possible names of that of the prompts, the first of which is there is taken.
        name: The column of the names; None numbers the rows.
        tabs: Columns are divided by tabs, and quotation marks are part of the text.
    """

    def read(source: Path) -> list[SuitePrompt]:
        style: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {}
        try:
            table = csv.DictReader(_text(source).splitlines(keepends=True), strict=not tabs, **style)
            rows = [{key: value for key, value in row.items() if key is not None} for row in table]
        except csv.Error as error:
            raise LLMDiffError(f"{source} is not a table of prompts ({error}).") from error
        column = next((one for one in columns if one in (table.fieldnames or ())), None)
        if column is None or (name is not None and name not in (table.fieldnames or ())):
            wanted = ", ".join(([name] if name else []) + [" or ".join(columns)])
            raise LLMDiffError(f"{source} lacks the column {wanted}: it is of another suite, or of another version.")
        if name is None:
            return _placed(source, [((row[column] or "").strip(), row) for row in rows])
        return [
            _checked(source, SuitePrompt((row[name] or "").strip(), (row[column] or "").strip(), row)) for row in rows
        ]

    return read


def _placed(source: Path, prompts: Sequence[tuple[str, dict[str, Any]]]) -> list[SuitePrompt]:
    """Named by their place, from 00000 on."""
    return [_checked(source, SuitePrompt(f"{place:05}", text, row)) for place, (text, row) in enumerate(prompts)]


def _checked(source: Path, one: SuitePrompt) -> SuitePrompt:
    if not one.prompt or not one.name:
        raise LLMDiffError(f"The prompt {one.name!r} of {source} is empty.")
    return one


def _lines(source: Path) -> list[tuple[int, str]]:
    return [(number, line) for number, line in enumerate(_text(source).split("\n"), 1) if line.strip()]


def _text(source: Path) -> str:
    try:
        return read_text(open_regular(source), _LARGEST)
    except (OSError, UnicodeError) as error:
        raise LLMDiffError(f"The prompts {source} cannot be read ({why_not(error)}).") from error


SUITES: dict[str, Suite] = {
    "geneval": Suite(_jsonl, 4),
    "dpg": Suite(_folder, 4),
    "compbench": Suite(_text_lines, 10),
    "unigenbench": Suite(_table(("prompt_en", "prompt_zh", "prompt"), name="index"), 4),
    "parti": Suite(_table(("Prompt",), tabs=True), 1),
    "drawbench": Suite(_table(("Prompts", "Prompt")), 1),
    "jsonl": Suite(_jsonl, 1),
}
"""By name, with as many pictures of a prompt as their authors draw."""
