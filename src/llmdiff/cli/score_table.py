"""Tables of scores of pictures, for the commands that compute them."""

from typing import Any

from rich.table import Table

from llmdiff.cli import console


def print_scores(rows: list[dict[str, Any]]) -> None:
    """Prints rows as `evaluate_pictures` returns them, and the models that they are by."""
    table = Table("score", "pictures of", "prompts", "pictures", "mean", "95 % interval", box=None)
    for number, row in enumerate(rows):
        if number and rows[number - 1]["score"] != row["score"]:
            table.add_section()
        interval = "–" if row["low"] is None else f"{_figure(row['low'])} – {_figure(row['high'])}"
        counts = str(row["prompts"] or "–"), str(row["pictures"] or "–")
        table.add_row(row["score"], row["system"], *counts, _figure(row["mean"]), interval)
    console.results.print(table)
    for score, row in {row["score"]: row for row in rows if row["revision"]}.items():
        pieces = f"; {row['in_pieces']} prompts were scored in pieces" if row["in_pieces"] else ""
        console.print_line(f"{score}: {row['model']}, {row['revision']}{pieces}")


def _figure(value: float) -> str:
    """Four places, and no nought below nought."""
    return f"{round(value, 4) + 0.0:.4f}"
