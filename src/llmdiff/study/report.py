"""The result of a study: a table for people, JSON for programs, a picture of it, and one page with all of them."""

import base64
import json
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from llmdiff.files import written_whole
from llmdiff.plots import new_figure, png_of
from llmdiff.study.agreement import alpha, bradley_terry
from llmdiff.study.comparison import Comparison, compare
from llmdiff.study.config import QUESTIONS, Question
from llmdiff.study.plan import Study
from llmdiff.study.raters import Rater, counted, judge, position_bias
from llmdiff.study.votes import Votes

_COLOURS = {"first": "#2563eb", "equal": "#cbd5e1", "neither": "#94a3b8", "second": "#d97706"}


@dataclass(frozen=True)
class Report:
    """What a study found.

    Attributes:
        title: Of the study.
        systems: Their names.
        comparisons: Every two of them, under each question.
        raters: All who voted, and why the votes of some do not count.
        agreement: Krippendorff's α by question; None where no two raters saw the same pair.
        strengths: Bradley-Terry strengths by question and system.
        position: Bias for the left side: answers, share of the left, its probability by chance.
    """

    title: str
    systems: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    raters: tuple[Rater, ...]
    agreement: dict[Question, float | None]
    strengths: dict[Question, dict[str, float]]
    position: dict[str, float | int]

    def as_json(self) -> dict[str, Any]:
        """All of it in plain values."""
        content = asdict(self)
        for written, comparison in zip(content["comparisons"], self.comparisons, strict=True):
            written["verdict"] = comparison.verdict
        return content


def study_report(study: Study, seed: int = 0) -> Report:
    """The result of a study by the votes that it has.

    Args:
        study: The study.
        seed: Of the resampling; the same votes and seed give the same numbers.

    Raises:
        LLMDiffError: The votes cannot be read.

    Example:
        >>> study_report(Study.load(Path("study"))).comparisons
        ()
    """
    store = Votes(study)
    try:
        votes = store.all()
    finally:
        store.close()
    raters = judge(study, votes)
    valid = counted(votes, raters)
    return Report(
        title=study.title,
        systems=study.systems,
        comparisons=tuple(compare(study, valid, seed)),
        raters=tuple(raters),
        agreement={question: alpha(study, valid, question) for question in study.questions},
        strengths={
            question: bradley_terry(study, valid, question)
            for question in study.questions
            if any(vote.question == question for vote in valid)
        },
        position=position_bias(valid),
    )


def sentence(comparison: Comparison) -> str:
    """The verdict in words."""
    first, second = comparison.systems
    share, low, high = (f"{100 * number:.0f}" for number in (comparison.share, comparison.low, comparison.high))
    if comparison.verdict == "undecided":
        more = (
            "no number of votes decides a draw"
            if comparison.missing is None
            else f"about {comparison.missing:,} more votes would decide it if the share stays"
        )
        return f"undecided: {first} has {share} % ({low} to {high}); {more}"
    loser = second if comparison.verdict == first else first
    return f"{comparison.verdict} is preferred to {loser}: {first} has {share} % ({low} to {high})"


def write_report(result: Report, folder: Path) -> list[Path]:
    """Writes ``report.json``, ``report.png`` and ``report.html`` and gives their paths."""
    paths = [folder / f"report.{ending}" for ending in ("json", "png", "html")]
    picture = _picture(result)
    contents = (json.dumps(result.as_json(), indent=1).encode() + b"\n", picture, _page(result, picture).encode())
    for path, content in zip(paths, contents, strict=True):
        with written_whole(path) as draft:
            draft.write_bytes(content)
    return paths


def _picture(result: Report) -> bytes:
    """Votes of each comparison as a bar, and the share of the first system with its interval."""
    rows = result.comparisons
    figure = new_figure(9, 1.4 + 0.8 * max(1, len(rows)))
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        start = 0.0
        for name, votes in zip(_COLOURS, (row.wins, row.equal, row.neither, row.losses), strict=True):
            axes.barh(place, votes / row.votes, left=start, height=0.55, color=_COLOURS[name])
            if votes / row.votes > 0.06:
                axes.text(start + votes / row.votes / 2, place, f"{votes / row.votes:.0%}", ha="center", va="center")
            start += votes / row.votes
        error = [[row.share - row.low], [row.high - row.share]]
        axes.errorbar(row.share, place + 0.38, xerr=error, fmt="o", color="black", capsize=3, markersize=4)
    axes.axvline(0.5, color="black", linewidth=0.8, linestyle=":")
    labels = [f"{row.systems[0]} : {row.systems[1]}\n{QUESTIONS[row.question]}" for row in rows]
    axes.set(xlim=(0, 1), yticks=range(len(rows)), yticklabels=labels)
    axes.invert_yaxis()
    axes.set_xlabel(
        "votes for the first (blue), equal, both bad, for the second; dot: share of the first, 95 % interval"
    )
    axes.set_title(result.title)
    return png_of(figure)


def _page(result: Report, picture: bytes) -> str:
    verdicts = "".join(
        f"<li><b>{escape(QUESTIONS[one.question])}</b> {escape(sentence(one))}</li>" for one in result.comparisons
    )
    agreement = ", ".join(
        f"{escape(QUESTIONS[question])} {'not known' if value is None else f'{value:.2f}'}"
        for question, value in result.agreement.items()
    )
    position = result.position
    return f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(result.title)}</title>
<style>body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 960px; margin: 2em auto; padding: 0 1em; }}
table {{ border-collapse: collapse; }} td, th {{ padding: 3px 12px 3px 0; text-align: left; }}
img {{ max-width: 100%; }} .out {{ opacity: .6; }} div {{ overflow-x: auto; }}</style>
<h1>{escape(result.title)}</h1>
<ul>{verdicts or "<li>No votes count yet.</li>"}</ul>
<img alt="Votes and intervals" src="data:image/png;base64,{base64.b64encode(picture).decode()}">
<h2>Comparisons</h2><div>{_table(_comparison_rows(result))}</div>
<h2>Strengths (Bradley-Terry)</h2><div>{_table(_strength_rows(result))}</div>
<h2>Raters</h2><div>{_table(_rater_rows(result))}</div>
<p>Krippendorff's α: {agreement}. The left picture was named in {position["left"]:.0%} of {position["answers"]} answers
that name one (by chance: {position["chance"]:.2g}).</p>
<p>A vote for a system counts 1, one for neither or both ½. Intervals (95 %) resample raters and prompts.</p></html>
"""


def _comparison_rows(result: Report) -> list[list[str]]:
    head = ["question", "systems", "votes", "raters", "prompts", "first", "second", "equal", "both bad",
            "share of first", "missing", "missing for 55:45"]  # fmt: skip
    return [head] + [
        [
            QUESTIONS[one.question], " : ".join(one.systems), str(one.votes), str(one.raters), str(one.prompts),
            str(one.wins), str(one.losses), str(one.equal), str(one.neither),
            f"{one.share:.1%} ({one.low:.1%} – {one.high:.1%})",
            "–" if one.missing is None else f"{one.missing:,}", f"{one.missing_clear:,}",
        ]
        for one in result.comparisons
    ]  # fmt: skip


def _strength_rows(result: Report) -> list[list[str]]:
    rows = [["question", *result.systems]]
    for question, strengths in result.strengths.items():
        rows.append([QUESTIONS[question], *(f"{strengths.get(system, 0):.2f}" for system in result.systems)])
    return rows


def _rater_rows(result: Report) -> list[list[str]]:
    rows = [["rater", "answers", "checks", "agrees with itself", "left", "seconds", "counts"]]
    for one in result.raters:
        agreement = "–" if one.agreement is None else f"{one.agreement:.0%}"
        left = "–" if one.left is None else f"{one.left:.0%}"
        rows.append([one.name[:8], str(one.votes), f"{one.checks[0]} of {one.checks[1]}", agreement, left,
                     f"{one.seconds:.1f}", f"no: {one.why_not}" if one.why_not else "yes"])  # fmt: skip
    return rows


def _table(rows: list[list[str]]) -> str:
    head, *body = rows
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in body]
    return f"<table>{''.join(lines)}</table>"
