"""The tab of training runs: losses, validation for each level of noise, sample sheets; two runs beside each other."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from llmdiff.app import parts
from llmdiff.app.context import LIGHT, Context
from llmdiff.app.pictures import thumbnail
from llmdiff.app.runs import Run, names_of_runs, read_run, stamp
from llmdiff.errors import LLMDiffError

_INTERVAL = 3.0  # seconds between two looks at the folders
_NONE = "none"
_SHEETS = 6  # that are shown of each run
_WIDE = 900  # pixels of a sheet on the page
_NOTHING = "\u200b"  # a space without width


def build_runs(context: Context) -> gr.Timer:
    """The tab of the runs below the folder that the app was started with; gives what has it look for new figures."""
    root = context.studio.settings.runs
    with gr.Row(elem_classes="ld-buttons"):
        first = gr.Dropdown([_NONE], value=_NONE, label="Run", elem_id="run-first")
        second = gr.Dropdown([_NONE], value=_NONE, label="Beside it", elem_id="run-second")
    status = gr.HTML(elem_id="run-status")
    loss = gr.LinePlot(None, x="step", y="loss", color="run", title="Training loss", height=280, elem_id="run-loss",
                       buttons=[], visible=False)  # fmt: skip
    with gr.Row(equal_height=False):
        columns = [_column(number) for number in (1, 2)]
    seen = gr.State(None)
    outputs = [status, loss, *(part for column in columns for part in column), seen]

    def list_runs(chosen: str, beside: str) -> list[Any]:
        names = names_of_runs(root)
        known = [name if name in names else _NONE for name in (chosen, beside)]
        if known[0] == _NONE and names:
            known[0] = names[0]
        return [gr.Dropdown([_NONE, *names], value=name) for name in known]

    def list_anew() -> list[Any]:
        """What there is to choose from; what is chosen stays, which may change while this is on its way."""
        return [gr.Dropdown([_NONE, *names_of_runs(root)])] * 2

    def show(chosen: str, beside: str) -> list[Any]:
        names = [name for name in (chosen, beside) if name != _NONE]
        return [*_shown(root, names), stamp(root, names)]

    def look_again(chosen: str, beside: str, before: Any) -> list[Any]:
        names = [name for name in (chosen, beside) if name != _NONE]
        if stamp(root, names) == before:
            return [gr.skip()] * len(outputs)
        return show(chosen, beside)

    both = [first, second]
    plots = [loss, *(part for column in columns for part in column if isinstance(part, gr.LinePlot))]
    turns = gr.State(0)
    for box in both:
        box.change(show, both, outputs, **LIGHT).then(_redraw(len(plots)), turns, [turns, *plots], **LIGHT)
    timer = gr.Timer(_INTERVAL, active=False)
    timer.tick(look_again, [*both, seen], outputs, **LIGHT)
    for box in both:
        box.focus(list_anew, None, both, **LIGHT)
    gr.on([context_load()], list_runs, both, both, **LIGHT)
    return timer


def _redraw(count: int) -> Any:
    """Has plots be drawn anew, by a title that looks the same: a plot knows the lines only that it began with."""
    return lambda turn: [turn + 1, *[gr.LinePlot(x_title="step" + _NOTHING * (turn % 2))] * count]


def context_load() -> Any:
    """The event of a page that is opened, of the app that is being built."""
    from gradio.context import Context as Building

    assert Building.root_block is not None
    return Building.root_block.load


def _column(number: int) -> list[Any]:
    with gr.Column(min_width=300, visible=False) as column:
        state = gr.HTML(elem_id=f"run-state-{number}")
        plot = gr.LinePlot(None, x="step", y="loss", color="noise", title="Held-out loss by level of noise", height=280,
                           elem_id=f"run-heldout-{number}", buttons=[], visible=False)  # fmt: skip
        levels = gr.HTML(elem_id=f"run-levels-{number}")
        sheets = gr.Gallery(
            label="Sample sheets", show_label=False, columns=1, height="auto", object_fit="contain", interactive=False,
            buttons=["fullscreen"], visible=False, elem_id=f"run-sheets-{number}", elem_classes="ld-sheets",
        )  # fmt: skip
    return [column, state, plot, levels, sheets]


def _shown(root: Path, names: list[str]) -> list[Any]:
    """Updates of everything but the stamp."""
    if not names:
        text = "There is no training run here yet. `llmdiff train` writes them; --runs names their folder."
        return [parts.note(text), gr.LinePlot(visible=False), *_empty(), *_empty()]
    try:
        runs = [read_run(root, name) for name in dict.fromkeys(names)]
    except LLMDiffError as error:
        return [parts.problem(error), gr.LinePlot(visible=False), *_empty(), *_empty()]
    losses = pd.concat([run.losses() for run in runs])
    columns = [_run(run) for run in runs] + [_empty()] * (2 - len(runs))
    return ["", _plot(losses), *columns[0], *columns[1]]


def _plot(curves: pd.DataFrame) -> gr.LinePlot:
    """A plot of losses by step, from 0 on; hidden as long as there is no line to draw."""
    if curves["step"].nunique() < 2:
        return gr.LinePlot(visible=False)
    steps, most = curves["step"], float(curves["loss"].max())
    return gr.LinePlot(curves, visible=True, x_lim=[float(steps.min()), float(steps.max())], y_lim=[0, 1.05 * most])


def _empty() -> list[Any]:
    return [gr.Column(visible=False), "", gr.LinePlot(visible=False), "", gr.Gallery(None, visible=False)]


def _run(run: Run) -> list[Any]:
    sheets = run.sheets()[:_SHEETS]
    return [
        gr.Column(visible=True),
        parts.chips({"run": run.name, **run.state()}),
        _plot(run.validation()),
        _levels(run) + _steps(sheets),
        gr.Gallery([str(thumbnail(path, _WIDE)) for path in sheets], visible=bool(sheets)),
    ]


def _steps(sheets: Sequence[Path]) -> str:
    """The title of sample sheets."""
    steps = ", ".join(f"{int(path.stem):,}" for path in sheets)
    return f'<p class="ld-title">Sample sheets of step {steps}</p>' if sheets else ""


def _levels(run: Run) -> str:
    """The newest held-out losses as a table."""
    rows = "".join(_level(*row) for row in run.levels())
    if not rows:
        return ""
    head = "<th>noise</th><th>base model</th><th>adapter</th><th>difference</th>"
    return (
        '<table class="ld-table"><caption>Held-out loss, newest</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _level(level: str, adapter: float, base: float | None) -> str:
    if base is None:
        return f"<tr><td>σ {escape(level)}</td><td>–</td><td>{adapter:.4f}</td><td>–</td></tr>"
    change = adapter / base - 1 if base else 0.0
    kind = "ld-good" if change < 0 else "ld-bad"
    return (
        f"<tr><td>σ {escape(level)}</td><td>{base:.4f}</td><td>{adapter:.4f}</td>"
        f'<td class="{kind}">{change:+.1%}</td></tr>'
    )
