"""`llmdiff evaluate`: scores of a base model and its adapter, and of the checker that gives them."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from llmdiff.cli import console
from llmdiff.cli.fidelity import fidelity
from llmdiff.cli.suite import suite_app
from llmdiff.home import home

evaluate_app = typer.Typer(help="Measure how well pictures show what their prompts say.", no_args_is_help=True)

_AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


evaluate_app.command("fidelity")(fidelity)
evaluate_app.add_typer(suite_app, name="suite")


@evaluate_app.command("scenes")
def scenes(
    base: Annotated[str, typer.Option(help="Base model that draws picture-book scenes.")] = "embedded",
    adapter: Annotated[str, typer.Option(help="'embedded', a folder, a Hub id, or 'none'.")] = "embedded",
    seeds: Annotated[int, typer.Option(min=1, max=10_000, help="Pictures per prompt.")] = 2,
    limit: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Only that many prompts of each group.", show_default="all")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Denoising steps.")] = 20,
    guidance: Annotated[
        float, typer.Option(min=0, max=100, callback=console.finite, help="Classifier-free guidance scale.")
    ] = 4.0,
    plainly: Annotated[bool, typer.Option("--plainly", help="Also tell the base the facts in its own words.")] = False,
    prompts: Annotated[
        Literal["v1", "v2"] | None,
        typer.Option(help="v1 of shapes, v2 of real things.", show_default="by the size of the base's pictures"),
    ] = None,
    as_json: _AsJson = False,
) -> None:
    """Share of pictures that show every fact their prompt states, per group, with 95 % bootstrap intervals.

    Fixed prompts in groups (v1: 360 in six, v2: 1,120 in eleven), drawn by the base model and by the adapted one from
    the same noise. If it is interrupted, the same command goes on where it was.
    """
    console.quiet_hosts()
    from llmdiff.evaluation import evaluate_scenes

    version = int(prompts[1:]) if prompts else None
    keep_in = home() / "evaluations"
    with console.progress_bar() as progress:
        rows = evaluate_scenes(base, adapter, seeds, limit, steps, guidance, plainly, version, progress, keep_in)
    if as_json:
        console.print_json(rows)
        return
    table = Table("group", "model", "prompts", "all facts right", "95 % interval", "facts right", box=None)
    for row in rows:
        table.add_row(row["group"], row["model"], str(row["prompts"]), *_figures(row))
        if row["model"] == rows[-1]["model"]:
            table.add_section()
    console.results.print(table)


@evaluate_app.command("distance")
def distance(
    base: Annotated[str, typer.Option(help="Base model that draws picture-book scenes.")] = "embedded",
    adapter: Annotated[str, typer.Option(help="'embedded', a folder, or a Hub id.")] = "embedded",
    count: Annotated[int, typer.Option(min=1, max=1_000_000, help="Scenes of each number of things.")] = 64,
    as_json: _AsJson = False,
) -> None:
    """Compare the base model under the LLM with itself under the same facts in its own words.

    Squared distance of its predictions for scenes in noise: 0 where the LLM says all, 1 where it says nothing.
    """
    console.quiet_hosts()
    from llmdiff.evaluation import evaluate_distance

    with console.progress_bar() as progress:
        rows = evaluate_distance(base, adapter, count, progress=progress)
    if as_json:
        console.print_json(rows)
        return
    table = Table("things", "wording", "timestep", "distance", box=None)
    for row in rows:
        table.add_row(str(row["things"]), row["wording"], str(row["timestep"]), f"{row['distance']:.3f}")
    console.results.print(table)


@evaluate_app.command("checker")
def checker(
    count: Annotated[int, typer.Option(min=1, max=1_000_000, help="Drawn scenes to read.")] = 5000,
    noise: Annotated[
        float, typer.Option(min=0, max=1000, callback=console.finite, help="Noise on the pictures, in grey levels.")
    ] = 0.0,
    as_json: _AsJson = False,
) -> None:
    """Measure how much of newly drawn scenes the scene checker reads right."""
    from llmdiff.evaluation import evaluate_checker

    with console.progress_bar() as progress:
        result = evaluate_checker(count, noise, progress)
    if as_json:
        console.print_json(result)
        return
    table = Table("what is read right", "share", box=None)
    for name in ("kinds", "colours", "sizes", "counts", "backgrounds", "whole"):
        table.add_row(name, f"{result[name]:.2%}")
    table.add_row("things found where none is", f"{result['false_things']:.2%}")
    console.results.print(table)


@evaluate_app.command("pictures")
def pictures(
    folders: Annotated[
        list[str], typer.Argument(metavar="[NAME=]FOLDER...", help="Pictures; same file names in all folders.")
    ],
    siglip: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="SigLIP score: folder or Hub id of a SigLIP, SigLIP 2, CLIP or PickScore."),
    ] = None,
    clip_iqa: Annotated[
        str | None, typer.Option("--clip-iqa", metavar="MODEL", help="CLIP-IQA: folder or Hub id of a CLIP.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps.", show_default="cpu")] = None,
    as_json: _AsJson = False,
) -> None:
    """Score pictures that are there, whoever drew them: how well they match their prompts and how good they look.

    The prompt of a picture is in its PNG (llmdiff's or the web UI's) or in a text file of its name beside it. Of
    several folders the differences to the first are scored too, picture by picture. Intervals (95 %) are bootstrapped
    over prompts.
    """
    console.quiet_hosts()
    from llmdiff.evaluation import evaluate_pictures

    with console.progress_bar() as progress:
        rows = evaluate_pictures(_named(folders), siglip, clip_iqa, device, progress)
    if as_json:
        console.print_json(rows)
        return
    table = Table("score", "pictures of", "prompts", "pictures", "mean", "95 % interval", box=None)
    for row in rows:
        figures = f"{row['mean']:.4f}", f"{row['low']:.4f} – {row['high']:.4f}"
        table.add_row(row["score"], row["system"], str(row["prompts"]), str(row["pictures"]), *figures)
    console.results.print(table)
    for score, row in {row["score"]: row for row in rows}.items():
        pieces = f"; {row['in_pieces']} prompts were scored in pieces" if row["in_pieces"] else ""
        console.print_line(f"{score}: {row['model']}, {row['revision']}{pieces}")


def _named(folders: list[str]) -> dict[str, Path]:
    """Folders by the name that they were given, or else their own."""
    named: dict[str, Path] = {}
    for text in folders:
        name, equals, folder = text.partition("=")
        path = Path(folder if equals else text)
        name = name if equals else path.name or text
        if name in named:
            raise typer.BadParameter(f"Two folders are called {name!r}: name them by NAME=FOLDER.")
        named[name] = path
    return named


@evaluate_app.command("world-checker")
def world_checker(
    count: Annotated[int, typer.Option(min=1, max=1_000_000, help="Drawn scenes to read.")] = 1000,
    noise: Annotated[
        float, typer.Option(min=0, max=1000, callback=console.finite, help="Noise on the pictures, in grey levels.")
    ] = 0.0,
    blur: Annotated[
        float, typer.Option(min=0, max=100, callback=console.finite, help="Blur of the pictures, in pixels.")
    ] = 0.0,
    base: Annotated[
        str | None, typer.Option(help="Base model whose autoencoder the pictures go through.", show_default="none")
    ] = None,
    as_json: _AsJson = False,
) -> None:
    """Measure how much of newly drawn scenes of real things their checker reads right."""
    console.quiet_hosts()
    from llmdiff.evaluation import evaluate_world_checker

    with console.progress_bar() as progress:
        result = evaluate_world_checker(count, noise, blur, base, progress)
    if as_json:
        console.print_json(result)
        return
    table = Table("what is read right", "share", box=None)
    for name in ("facts", "whole"):
        table.add_row(name, f"{result[name]:.2%}")
    console.results.print(table)


def _figures(row: dict[str, Any]) -> tuple[str, str, str]:
    """Share, interval and share of facts; gains with their sign and in points."""
    if row["model"] != "difference":
        return f"{row['share']:.1%}", f"{row['low']:.1%} – {row['high']:.1%}", f"{row['facts']:.1%}"
    points = [f"{100 * row[key]:+.1f}" for key in ("share", "low", "high", "facts")]
    return points[0], f"{points[1]} – {points[2]}", points[3]
