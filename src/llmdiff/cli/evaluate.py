"""`llmdiff evaluate`: scores of a base model and its adapter, and of the checker that gives them."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from llmdiff.cli import console
from llmdiff.cli.evaluate_pictures import all_scores, pictures
from llmdiff.cli.evaluate_proxy import evaluate_proxy
from llmdiff.cli.fidelity import fidelity
from llmdiff.cli.suite import suite_app
from llmdiff.home import home

if TYPE_CHECKING:
    from llmdiff.evaluation import SceneReport

evaluate_app = typer.Typer(help="Measure how well pictures show what their prompts say; all of it without a COMMAND.")

_AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
_Prompts = Annotated[
    Literal["v1", "v2"] | None,
    typer.Option(help="v1 of shapes, v2 of real things.", show_default="by the size of the base's pictures"),
]
_MOST_CONFUSED = 3  # values of a property that are shown


@evaluate_app.callback(invoke_without_command=True)
def without_command(context: typer.Context, as_json: _AsJson = False) -> None:
    """Print all scores of the embedded base and adapter, as `llmdiff evaluate all` does, or run a command."""
    if context.invoked_subcommand is None:
        all_scores(as_json=as_json)


evaluate_app.command("all")(all_scores)
evaluate_app.command("pictures")(pictures)
evaluate_app.command("fidelity")(fidelity)
evaluate_app.command("proxy")(evaluate_proxy)
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
    prompts: _Prompts = None,
    guidance_sweep: Annotated[
        str, typer.Option(callback=console.numbers, help="Scales at which the base is drawn too, such as 1,2,8,20.")
    ] = "",
    details: Annotated[
        bool, typer.Option("--details", help="Also what was drawn instead, and each kind of fact; by prompt in --json.")
    ] = False,
    as_json: _AsJson = False,
) -> None:
    """Share of pictures that show every fact their prompt states, per group, with 95 % bootstrap intervals.

    Fixed prompts in groups (v1: 360 in six, v2: 1,120 in eleven), drawn by the base model and by the adapted one from
    the same noise. If it is interrupted, the same command goes on where it was.
    """
    console.quiet_hosts()
    from llmdiff.evaluation import SceneSettings, scene_report

    version = int(prompts[1:]) if prompts else None
    sweep = console.as_numbers(guidance_sweep)
    settings = SceneSettings(base, adapter, seeds, limit, steps, guidance, plainly, version, sweep)
    with console.progress_bar() as progress:
        report = scene_report(settings, progress, home() / "evaluations")
    rows = report.rows
    if as_json:
        console.print_json(asdict(report) if details else rows)
        return
    table = Table("group", "model", "prompts", "all facts right", "95 % interval", "facts right", box=None)
    for row in rows:
        table.add_row(row["group"], row["model"], str(row["prompts"]), *_figures(row))
        if row["model"] == rows[-1]["model"]:
            table.add_section()
    console.results.print(table)
    if details:
        _print_details(report)


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
        rows = evaluate_distance(base, adapter, count, progress=progress, keep_in=home() / "evaluations")
    if as_json:
        console.print_json(rows)
        return
    table = Table("things", "wording", "timestep", "distance (95 %)", box=None)
    for row in rows:
        figure = f"{row['distance']:.3f} ({row['low']:.3f}–{row['high']:.3f})"
        table.add_row(str(row["things"]), row["wording"], str(row["timestep"]), figure)
    console.results.print(table)


@evaluate_app.command("consistency")
def consistency(
    base: Annotated[str, typer.Option(help="Base model that draws picture-book scenes.")] = "embedded",
    adapter: Annotated[str, typer.Option(help="'embedded', a folder, a Hub id, or 'none'.")] = "embedded",
    scenes: Annotated[int, typer.Option(min=1, max=10_000, help="Scenes of each group of the prompts.")] = 5,
    wordings: Annotated[int, typer.Option(min=2, max=100, help="Wordings of each scene.")] = 4,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Denoising steps.")] = 20,
    guidance: Annotated[
        float, typer.Option(min=0, max=100, callback=console.finite, help="Classifier-free guidance scale.")
    ] = 4.0,
    prompts: _Prompts = None,
    as_json: _AsJson = False,
) -> None:
    """Share of pairs of wordings of one scene whose pictures, from the same noise, show the same."""
    console.quiet_hosts()
    from llmdiff.evaluation import evaluate_consistency

    version = int(prompts[1:]) if prompts else None
    with console.progress_bar() as progress:
        rows = evaluate_consistency(
            base, adapter, scenes, wordings, steps, guidance, version, progress, home() / "evaluations"
        )
    if as_json:
        console.print_json(rows)
        return
    table = Table("model", "scenes", "same", "95 % interval", "right", "always right", box=None)
    for row in rows:
        signed = "+" if row["model"] == "difference" else ""
        figures = [f"{row[key]:{signed}.1%}" for key in ("same", "low", "high", "right", "always_right")]
        table.add_row(row["model"], str(row["scenes"]), figures[0], f"{figures[1]} – {figures[2]}", *figures[3:])
    console.results.print(table)


@evaluate_app.command("checker")
def checker(
    count: Annotated[int, typer.Option(min=1, max=1_000_000, help="Drawn scenes to read.")] = 5000,
    noise: Annotated[
        float, typer.Option(min=0, max=1000, callback=console.finite, help="Noise on the pictures, in grey levels.")
    ] = 0.0,
    blur: Annotated[
        float, typer.Option(min=0, max=100, callback=console.finite, help="Blur of the pictures, in pixels.")
    ] = 0.0,
    base: Annotated[
        str | None, typer.Option(help="Base model whose autoencoder the pictures go through.", show_default="none")
    ] = None,
    scenes: Annotated[Literal["v1", "v2"], typer.Option(help="v1 of shapes, v2 of real things.")] = "v1",
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Pictures labelled by eye, to compare it with; see the docs."),
    ] = None,
    things: Annotated[
        int | None, typer.Option(min=4, max=300, help="So many real things, the first ones.", show_default="all")
    ] = None,
    as_json: _AsJson = False,
) -> None:
    """Measure how much of newly drawn scenes the checker of their domain reads right, or how it agrees with an eye."""
    console.quiet_hosts()
    if labels is not None:
        _by_eye(labels, as_json)
        return
    from llmdiff.evaluation import evaluate_checker

    keep_in = home() / "evaluations"
    with console.progress_bar() as progress:
        result = evaluate_checker(
            count, noise, progress, version=int(scenes[1:]), blur=blur, base=base, things=things, keep_in=keep_in
        )
    if as_json:
        console.print_json(result)
        return
    table = Table("what is read right", "share", box=None)
    for name in ("kinds", "colours", "sizes", "counts", "backgrounds", "facts", "whole"):
        table.add_row(name, f"{result[name]:.2%}")
    table.add_row("things found where none is", f"{result['false_things']:.2%}")
    console.results.print(table)


def _by_eye(folder: Path, as_json: bool) -> None:
    """The checker beside the labels of a folder."""
    from llmdiff.evaluation.by_eye import evaluate_by_eye
    from llmdiff.evaluation.labels import labelled_pictures

    with console.progress_bar() as progress:
        rows = evaluate_by_eye(labelled_pictures(folder), progress)
    if as_json:
        console.print_json(rows)
        return
    table = Table(
        "what", "pictures of", "compared", "undecided", "agreement (95 %)", "missed", "false alarms", box=None
    )
    for row in rows:
        agreement = (
            "–" if row["agreement"] is None else f"{row['agreement']:.1%} ({row['low']:.1%} – {row['high']:.1%})"
        )
        counts = (str(row[name]) for name in ("compared", "undecided"))
        table.add_row(row["what"], row["system"], *counts, agreement, str(row["missed"]), str(row["false_alarms"]))
    console.results.print(table)


def _print_details(report: "SceneReport") -> None:
    """The share of each kind of fact, and of each property the values that were most often drawn as others."""
    facts = Table("fact", "model", "prompts", "right", "95 % interval", box=None)
    for row in report.facts:
        facts.add_row(row["fact"], row["model"], str(row["prompts"]), *_figures(row | {"facts": 0.0})[:2])
    console.results.print(facts)
    wrong = Table("model", "property", "stated", "drawn", "times", "of those stated", box=None)
    shown: Counter[tuple[str, str]] = Counter()
    for row in report.confusion:
        kind = row["model"], row["what"]
        if row["stated"] != row["drawn"] and shown[kind] < _MOST_CONFUSED:
            shown[kind] += 1
            wrong.add_row(*kind, row["stated"], row["drawn"], str(row["count"]), f"{row['share']:.0%}")
    console.results.print(wrong)


def _figures(row: dict[str, Any]) -> tuple[str, str, str]:
    """Share, interval and share of facts; gains with their sign and in points."""
    if row["model"] != "difference" and " - " not in row["model"]:
        return f"{row['share']:.1%}", f"{row['low']:.1%} – {row['high']:.1%}", f"{row['facts']:.1%}"
    points = [f"{100 * row[key]:+.1f}" for key in ("share", "low", "high", "facts")]
    return points[0], f"{points[1]} – {points[2]}", points[3]
