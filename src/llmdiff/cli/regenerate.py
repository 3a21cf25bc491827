"""`llmdiff regenerate`: a PNG written by llmdiff, drawn again from what it says of itself."""

from pathlib import Path
from typing import Annotated

import typer

from llmdiff.cli import console


def regenerate(
    file: Annotated[Path, typer.Argument(metavar="FILE.png", help="A PNG written by llmdiff.")],
    out: Annotated[
        Path | None, typer.Option(help="Where to write the new PNG.", show_default="FILE-again.png beside it")
    ] = None,
    base: Annotated[str | None, typer.Option(help="Where the base model is now, if it has moved.")] = None,
    base_config: Annotated[
        str | None, typer.Option(help="Where the configs of a .safetensors base are now, if they have moved.")
    ] = None,
    adapter: Annotated[str | None, typer.Option(help="Where the adapter is now, if it has moved.")] = None,
    llm: Annotated[str | None, typer.Option(help="Where the LLM is now, if it has moved.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Redraw a picture or comparison sheet pixel for pixel.

    Says whether it came out identical, and warns of models or library versions that have changed since.
    """
    console.quiet_hosts()
    from llmdiff.generation import regenerate as redraw
    from llmdiff.generation import write_png

    with console.progress_bar() as progress:
        redrawn = redraw(file, base=base, base_config=base_config, adapter=adapter, llm=llm, progress=progress)
    path = out or file.with_name(f"{file.stem}-again.png")
    write_png(path, redrawn.image, redrawn.document)
    if as_json:
        changes = list(redrawn.changes)
        console.print_json({"path": str(path), "identical": redrawn.identical, "changes": changes})
    else:
        console.print_line(f"{path} ({'identical' if redrawn.identical else 'NOT identical'})")
