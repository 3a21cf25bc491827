"""`llmdiff data`: a look at training data before a run."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from llmdiff.cli import console

if TYPE_CHECKING:
    from llmdiff.data import Data
    from llmdiff.data.check import Report
    from llmdiff.data.errors import Kind

_RESOLUTION = 512
_SHOWN = 3  # names of each kind that is passed over; JSON has all of them

data_app = typer.Typer(help="Look at training data before a run.", no_args_is_help=True)


@data_app.callback()
def data() -> None:
    """Hold the commands of `llmdiff data`."""


@data_app.command("check")
def check(
    source: Annotated[
        str, typer.Argument(help="A recipe, or a folder of pictures, parquet files or WebDataset shards.")
    ],
    option: Annotated[
        list[str] | None, typer.Option("-o", "--option", metavar="KEY=VALUE", help="Set a key of the recipe.")
    ] = None,
    resolution: Annotated[
        int | None,
        typer.Option(
            min=8,
            max=8192,
            help="Side in pixels, where the data says none.",
            show_default="the recipe's base model's; 512",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Read every picture and caption once, and name what is bad.

    Bad ones stop a training run, or count against its data.skip_bad: truncated, empty and foreign files, decompression
    bombs, animations, wrong rows, missing files and captions, what nobody may read and what leads out of the folder.
    Noted ones are trained on: CMYK, 16-bit and transparent pictures and those turned by EXIF are converted; duplicates
    stay. What is passed over is counted by its reason. The exit status is 1 if anything is bad.
    """
    console.check_start()
    from llmdiff.data.check import check as read

    found, side = _data(source, option or [], resolution)
    with console.progress_bar() as progress:
        report = read(found, side, progress)
    if as_json:
        console.print_json(report.to_dict())
    else:
        _print(report)
    if report.bad:
        raise typer.Exit(1)


def _data(source: str, options: list[str], resolution: int | None) -> "tuple[Data, int]":
    """The data of a recipe, or at a path, and the resolution where it says none."""
    from llmdiff.data.check import data_at, needs_resolution
    from llmdiff.training import load_recipe

    if not options and (at_path := data_at(source)):
        return at_path, resolution or _RESOLUTION
    recipe = load_recipe(source, options)
    if resolution is None and needs_resolution(recipe.data):
        from llmdiff.training.costs import base_resolution

        resolution = base_resolution(recipe.base, recipe.base_config)
    return recipe.data, resolution or _RESOLUTION


def _print(report: "Report") -> None:
    from llmdiff.data.errors import WHY_PASSED_OVER

    for finding in report.findings:
        line = f"{'bad' if finding.bad else 'note':<4}  {finding.kind:<18}  {finding.name}"
        console.print_line(_harmless(line if finding.bad else f"{line}  ({finding.detail})"))
    for kind, names in _by_kind(report).items():
        shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
        console.print_line(_harmless(f"over  {kind:<18}  {len(names):,} {WHY_PASSED_OVER[kind]}: {shown}"))
    table = Table("trained at", "pictures", box=None)
    for (height, width), count in sorted(report.sizes.items()):
        table.add_row(f"{width} × {height}", f"{count:,}")
    console.results.print(table)
    over = f"; {len(report.passed_over):,} files or folders passed over" if report.passed_over else ""
    console.print_line(f"{report.pictures:,} pictures, {report.bad:,} of them bad; {report.captions:,} captions{over}")


def _by_kind(report: "Report") -> "dict[Kind, list[str]]":
    """The names of what is passed over."""
    found: dict[Kind, list[str]] = {}
    for name, kind in report.passed_over:
        found.setdefault(kind, []).append(name)
    return found


def _harmless(text: str) -> str:
    """Without characters that would steer the terminal: a file may have any name."""
    return "".join(character if character.isprintable() else "�" for character in text)
