"""`llmdiff evaluate`: scores of a base model and its adapter."""

from typing import Annotated

import typer
from rich.table import Table

from llmdiff.cli import console

evaluate_app = typer.Typer(help="Measure how well pictures show what their prompts say.", no_args_is_help=True)


@evaluate_app.callback()
def _group() -> None:
    """Keep `scenes` a command of its own, not the whole group."""


@evaluate_app.command("scenes")
def scenes(
    base: Annotated[str, typer.Option(help="Base model that draws picture-book scenes.")] = "embedded",
    adapter: Annotated[str, typer.Option(help="Adapter: 'embedded', a folder, or a Hub id.")] = "embedded",
    seeds: Annotated[int, typer.Option(min=1, help="Pictures per prompt.")] = 2,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only that many prompts of each group.", show_default="all")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Share of prompts whose picture shows every stated fact, per group, with 95 % bootstrap intervals."""
    console.quiet_hosts()
    from llmdiff.evaluation import evaluate_scenes

    with console.progress_bar() as progress:
        rows = evaluate_scenes(base=base, adapter=adapter, seeds=seeds, limit=limit, progress=progress)
    if as_json:
        console.print_json(rows)
        return
    table = Table("group", "model", "prompts", "all facts right", "95 % interval", box=None, pad_edge=False)
    for row in rows:
        interval = f"{row['low']:.1%} – {row['high']:.1%}"
        table.add_row(row["group"], row["model"], str(row["prompts"]), f"{row['share']:.1%}", interval)
    console.results.print(table)
