"""`llmdiff models`: what is embedded, where it is, and fetching it ahead of time."""

from typing import Annotated

import typer
from rich.table import Table

from llmdiff.cli import console
from llmdiff.models import find, models

models_app = typer.Typer(help="List, fetch and locate the embedded models.", no_args_is_help=True)

_Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
_Name = Annotated[str, typer.Argument(help="llm, base or adapter.")]


@models_app.command("list")
def list_models(as_json: _Json = False) -> None:
    """List the embedded models and whether they are here."""
    rows = [
        {"name": one.name, "description": one.description, "present": one.present, "path": str(one.locate())}
        for one in models()
    ]
    if as_json:
        console.print_json(rows)
        return
    table = Table("name", "here", "what it is", box=None, pad_edge=False)
    for row in rows:
        table.add_row(str(row["name"]), "yes" if row["present"] else "no", str(row["description"]))
    console.results.print(table)


@models_app.command("pull")
def pull(name: _Name = "llm", as_json: _Json = False) -> None:
    """Fetch a model if it is not here yet, and print its folder."""
    model = find(name)
    if not model.present:
        console.quiet_hosts()
    path = model.pull()
    console.print_json({"name": name, "path": str(path)}) if as_json else console.print_line(path)


@models_app.command("where")
def where(name: _Name = "llm", as_json: _Json = False) -> None:
    """Print the folder in which a model is, or will be once it is fetched."""
    path = find(name).locate()
    if as_json:
        console.print_json({"name": name, "path": str(path), "present": find(name).present})
    else:
        console.print_line(path)
