"""`llmdiff demo`: a contact sheet, base model beside adapted model, and the exact scores behind it."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from llmdiff.cli import console
from llmdiff.cli.picture_files import write_file, write_free

if TYPE_CHECKING:
    from llmdiff.generation.showcase import Shown


def demo(
    base: Annotated[str, typer.Option(help="Base model that draws picture-book scenes.")] = "embedded",
    adapter: Annotated[str, typer.Option(help="Adapter: 'embedded', a folder, or a Hub id.")] = "embedded",
    seed: Annotated[int, typer.Option(help="Seed of every picture.")] = 7,
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 20,
    guidance: Annotated[float, typer.Option(help="Classifier-free guidance scale.")] = 4.0,
    out: Annotated[Path | None, typer.Option(help="The contact sheet.", show_default="a new out/demo.png")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Draw prompts of six groups and say of each picture whether it shows everything that its prompt states.

    The groups: plain prompts, attributes bound to things, relations, counts, long prompts, and wordings that occur in
    no training caption. The last line is the contact sheet's path.
    """
    console.quiet_hosts()
    from llmdiff.evaluation import check, demo_prompts
    from llmdiff.generation import GenerationRequest
    from llmdiff.generation.showcase import draw_showcase

    prompts = demo_prompts()
    request = GenerationRequest(
        prompts=[one.prompt for one in prompts],
        base=base,
        adapter=adapter,
        seed=seed,
        steps=steps,
        guidance=guidance,
        compare=True,
    )
    shown: list[Shown] = []
    try:
        with console.progress_bar() as progress, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the base cuts long prompts is part of what the demo shows
            for one in draw_showcase(request, prompts, check, progress):
                shown.append(one)
    finally:
        if shown:  # also of a demo that ends early
            _finish(shown, out, as_json)


def _finish(shown: Sequence["Shown"], out: Path | None, as_json: bool) -> None:
    """Write the sheet, and print what it shows."""
    from llmdiff.generation.showcase import showcase_sheet

    sheet = showcase_sheet(shown)
    out = write_free(Path("out"), "demo", sheet) if out is None else write_file(out, sheet)
    if as_json:
        console.print_json({"prompts": [_row(one) for one in shown], "sheet": str(out)})
        return
    _print_scores(shown)
    console.print_line(out)


def _row(one: "Shown") -> dict[str, object]:
    return {"group": one.group, "prompt": one.picture.prompt, "base": one.base_right, "adapted": one.adapted_right}


def _print_scores(shown: Sequence["Shown"]) -> None:
    """Print a line per prompt, then the share of pictures that are right in everything, per group and over all."""
    table = Table("group", "prompt", "base", "with LLM", title="Does the picture show everything that the prompt says?")
    for one in shown:
        table.add_row(one.group, one.picture.prompt, _mark(one.base_right), _mark(one.adapted_right))
    console.results.print(table)
    totals = Table("group", "base", "with LLM", title="Pictures right in everything")
    for group in dict.fromkeys(one.group for one in shown):
        totals.add_row(group, *_shares([one for one in shown if one.group == group]))
    totals.add_section()
    totals.add_row("all", *_shares(shown))
    console.results.print(totals)


def _shares(shown: Sequence["Shown"]) -> tuple[str, str]:
    base, adapted = sum(one.base_right for one in shown), sum(one.adapted_right for one in shown)
    return f"{base} of {len(shown)}", f"{adapted} of {len(shown)}"


def _mark(right: bool) -> str:
    return "yes" if right else "no"
