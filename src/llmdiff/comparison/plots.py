"""Pictures of the findings: distances with their intervals, and sheets of equal prompts and seeds."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from llmdiff.comparison.findings import Findings, Row
from llmdiff.errors import LLMDiffError
from llmdiff.generation import SheetEntry, contact_sheet, read_picture
from llmdiff.plots import new_figure, png_of

_COLOURS = {"closer": "#15803d", "farther": "#b91c1c"}
_WORDINGS = ("o", "s", "^", "D")


def distances(rows: Sequence[Row], reference: str) -> bytes:
    """The distance of each condition with its interval, and faint its mean under each wording, as a PNG."""
    figure = new_figure(9, 1.2 + 0.34 * len(rows))
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        colour = "black" if row.condition == reference else _COLOURS.get(row.verdict, "#64748b")
        d = row.distance
        axes.errorbar(d.mean, place, xerr=[[d.mean - d.low], [d.high - d.mean]], fmt="o", color=colour, capsize=3)
        for marker, (wording, estimate) in zip(_WORDINGS, row.by_wording.items(), strict=False):
            label = wording if place == 0 else None
            axes.plot(estimate.mean, place, marker, color="#94a3b8", markersize=4, fillstyle="none", label=label)
        if row.condition == reference:
            axes.axvline(d.mean, color="black", linewidth=0.8, linestyle=":")
    axes.set(yticks=range(len(rows)), yticklabels=[f"{row.condition} ({len(row.seeds)})" for row in rows])
    axes.set_xlabel("distance to the teacher, 95 % interval (in brackets: trainings); 0 says all, 1 nothing")
    axes.invert_yaxis()
    axes.grid(axis="x", color="#e2e8f0")
    if rows:
        axes.legend(loc="best", fontsize=8)
    return png_of(figure)


def sheet(found: Findings, folders: dict[str, Path]) -> bytes | None:
    """The prompts of the sheet, drawn by the base model and each condition from one noise; None where none is drawn.

    A column whose pictures are missing or damaged is left out, with a warning.

    Args:
        found: the findings.
        folders: of the pictures, by name of the condition.
    """
    prompts = found.config.pictures.sheet
    columns = {name: column for name, folder in folders.items() if (column := _column(folder, len(prompts)))}
    if not columns:
        return None
    rows = zip(*columns.values(), strict=True)
    entries = [SheetEntry(images, prompt) for prompt, images in zip(prompts, rows, strict=True)]
    buffer = io.BytesIO()
    contact_sheet(entries, headings=list(columns)).save(buffer, "PNG")
    return buffer.getvalue()


def _column(folder: Path, count: int) -> list[Image.Image]:
    """The pictures of a folder, or none where one is not as it was drawn."""
    try:
        return [read_picture(folder / f"sheet-{number}.png")[0] for number in range(count)]
    except LLMDiffError as error:
        warnings.warn(f"The sheet of the report is without {folder}: {error}", stacklevel=2)
        return []
