"""`llmdiff regenerate`: a PNG written by llmdiff, drawn again from what it says of itself."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from llmdiff.cli import console
from llmdiff.cli.picture_files import write_file, write_free

DIFFERENT = 3
"""The exit status where the picture that was drawn is another."""


def regenerate(
    file: Annotated[Path, typer.Argument(metavar="FILE.png", help="A PNG written by llmdiff.")],
    out: Annotated[
        Path | None, typer.Option(help="Where to write the new PNG.", show_default="a new FILE-again.png beside it")
    ] = None,
    base: Annotated[str | None, typer.Option(help="The base model, if it is not embedded.")] = None,
    base_config: Annotated[str | None, typer.Option(help="The configs of a .safetensors base.")] = None,
    adapter: Annotated[str | None, typer.Option(help="The adapter, if it is not embedded.")] = None,
    llm: Annotated[str | None, typer.Option(help="The LLM, if it is not the adapter's own.")] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Load the models that the file names, wherever they are, without asking.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Redraw a picture or comparison sheet pixel for pixel.

    Says whether it came out identical, and warns of models or library versions that have changed since. The exit status
    is 3 if a pixel differs by more than 4 of 255 levels: another processor's rounding changes one by less. A PNG may
    come from anybody: models that it names are loaded only if they are embedded, named here too, or confirmed.
    """
    console.rest_when_waiting()
    console.quiet_hosts()
    from llmdiff.generation import regenerate as redraw

    with console.progress_bar() as progress:
        redrawn = redraw(
            file, base=base, base_config=base_config, adapter=adapter, llm=llm, progress=progress,
            confirm=lambda models: trust or _confirmed(models),
        )  # fmt: skip
    result = redrawn.image, redrawn.document
    path = write_file(out, *result) if out else write_free(file.parent, f"{file.stem}-again", *result)
    if as_json:
        facts = {"identical": redrawn.identical, "same": redrawn.same, "difference": redrawn.difference}
        console.print_json({"path": str(path), **facts, "changes": list(redrawn.changes)})
    else:
        verdict = "identical" if redrawn.identical else "the same but for rounding" if redrawn.same else "DIFFERENT"
        console.print_line(f"{path} ({verdict})")
    if not redrawn.same:
        raise typer.Exit(DIFFERENT)


def _confirmed(models: str) -> bool:
    """Ask whether models may be loaded, where somebody can answer."""
    if sys.stdin is None or not sys.stdin.isatty():
        return False
    console.say("the file names", models, "bold")
    return typer.confirm("Do you trust them?", err=True)
