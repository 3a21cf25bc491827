"""`llmdiff train`: a recipe in, an adapter out."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from llmdiff.cli import console


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe file (YAML), or a preset: embedded, sd15, sd21, sdxl.")
    ],
    option: Annotated[
        list[str] | None, typer.Option("-o", "--option", metavar="KEY=VALUE", help="Set a key of the recipe.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run of this recipe.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the memory and disk that it takes, from the models' configs alone.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train an adapter by a recipe.

    Writes the adapter, sample sheets, and logs (JSONL and TensorBoard) to the recipe's folder. Ctrl-C saves; an
    interrupted run continues with --resume and ends with the same weights, bit for bit. For several GPUs or machines,
    start it with `accelerate launch -m llmdiff train RECIPE`.
    """
    console.quiet_hosts()
    if dry_run:
        _print_costs(recipe, option or [], as_json)
        return
    from llmdiff.training import Interrupted
    from llmdiff.training import train as run
    from llmdiff.training.processes import is_main_process

    with console.progress_bar() as progress:
        try:
            summary = run(recipe, options=option or [], resume=resume, progress=progress)
        except Interrupted:
            if is_main_process():
                console.say("note", "Stopped; the same command with --resume goes on from here.", "bold")
            raise
    if is_main_process():
        console.print_json(summary) if as_json else console.print_line(summary["adapter"])


def _print_costs(recipe: str, options: list[str], as_json: bool) -> None:
    """The bill of a recipe: what it takes of memory and disk, and what for."""
    from llmdiff.files import readable
    from llmdiff.training import load_recipe
    from llmdiff.training.costs import costs

    bill = costs(load_recipe(recipe, options))
    if as_json:
        console.print_json(asdict(bill))
        return
    table = Table("", "for", "takes", "how it comes about", box=None)
    for place, rows in (("memory", bill.memory), ("disk", bill.disk)):
        for row in rows:
            table.add_row(place, row.name, readable(row.size), row.note)
        table.add_row(place, "together", readable(sum(row.size for row in rows)), end_section=True)
    console.results.print(table)
