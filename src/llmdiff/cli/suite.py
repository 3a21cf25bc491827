"""`llmdiff evaluate suite`: prompts of other people's benchmarks, and pictures as their scorers read them."""

from pathlib import Path
from typing import Annotated

import typer

from llmdiff.cli import console

suite_app = typer.Typer(
    help="Draw the prompts of GenEval, DPG-Bench, T2I-CompBench, UniGenBench, PartiPrompts or DrawBench from your own "
    "copy, and lay the pictures out as their scorers read them.",
    no_args_is_help=True,
)

_Name = Annotated[
    str, typer.Argument(metavar="SUITE", help="geneval, dpg, compbench, unigenbench, parti, drawbench or jsonl.")
]
_Source = Annotated[Path, typer.Argument(metavar="COPY", help="Your copy of its prompts: a file or, of dpg, a folder.")]
_Pictures = Annotated[
    int | None, typer.Option(min=1, max=1000, help="Pictures per prompt.", show_default="as its authors draw")
]


@suite_app.command("prompts")
def prompts(
    name: _Name,
    source: _Source,
    out: Annotated[Path, typer.Option(help="A .jsonl file for `llmdiff generate --prompts`.")],
    pictures: _Pictures = None,
) -> None:
    """Write the prompts of a suite as a file that `llmdiff generate --prompts` draws."""
    from llmdiff.evaluation.suite_pictures import write_suite_prompts
    from llmdiff.evaluation.suites import read_suite, suite

    found = read_suite(name, source)
    write_suite_prompts(found, out, pictures or suite(name).pictures)
    console.print_line(out)


@suite_app.command("arrange")
def arrange_pictures(
    name: _Name,
    source: _Source,
    drawn: Annotated[Path, typer.Argument(help="The pictures that `llmdiff generate --prompts` has drawn.")],
    out: Annotated[Path, typer.Option(help="A new folder, for the suite's own scorer.")],
    pictures: _Pictures = None,
) -> None:
    """Lay out the pictures of a suite as its own scorer reads them."""
    from llmdiff.evaluation.suite_pictures import arrange
    from llmdiff.evaluation.suites import read_suite, suite

    found = read_suite(name, source)
    with console.progress_bar() as progress:
        arrange(name, found, drawn, pictures or suite(name).pictures, out, progress)
    console.print_line(out)
