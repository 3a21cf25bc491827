"""`llmdiff models`: what has a name here, where it is, and fetching it ahead of time."""

import sys
from typing import Annotated

import typer
from rich.table import Table

from llmdiff.cli import console
from llmdiff.models import Model, find, models

models_app = typer.Typer(help="List, fetch and locate the models that llmdiff knows by name.", no_args_is_help=True)

_Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
_Name = Annotated[str, typer.Argument(help="A name from `llmdiff models list`; embedded is smollm2-135m.")]


@models_app.command("list")
def list_models(as_json: _Json = False) -> None:
    """List the models that llmdiff knows by name, and whether they are here."""
    rows = [
        {
            "name": one.name,
            "kind": one.kind,
            "aliases": list(one.aliases),
            "description": one.description,
            "licence": one.licence,
            "present": one.present,
            "path": str(one.locate()),
        }
        for one in models()
    ]
    if as_json:
        console.print_json(rows)
        return
    table = Table("name", "here", "what it is", "licence", box=None, pad_edge=False)
    for one in models():
        table.add_row(one.name, "yes" if one.present else "no", one.description, one.licence)
    console.results.print(table)


@models_app.command("pull")
def pull(
    name: _Name = "embedded",
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept the model's own terms of use, where it has some.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Fetch a model if it is not here yet or damaged, and print its folder."""
    model = find(name)
    if not model.present:
        console.quiet_hosts()
        accept_licence = _accepted(model, accept_licence)
    path = model.pull(accept_licence, mend=True)
    console.print_json({"name": name, "path": str(path)}) if as_json else console.print_line(path)


def _accepted(model: Model, accepted: bool) -> bool:
    """Show the terms of a model that has some, and ask whether they are accepted where somebody can answer."""
    if model.terms is None:
        return False
    console.say("licence", model.terms, "bold")
    return accepted or (sys.stdin.isatty() and typer.confirm("Do you accept these terms?", err=True))


@models_app.command("where")
def where(name: _Name = "embedded", as_json: _Json = False) -> None:
    """Print the folder in which a model is, or will be once it is fetched."""
    path = find(name).locate()
    if as_json:
        console.print_json({"name": name, "path": str(path), "present": find(name).present})
    else:
        console.print_line(path)
