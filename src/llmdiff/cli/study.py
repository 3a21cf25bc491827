"""`llmdiff study`: a blind comparison of pictures by people."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from llmdiff.cli import console, serving_options
from llmdiff.extras import extra

study_app = typer.Typer(help="Ask people, blindly, which pictures they prefer.", no_args_is_help=True)

_Folder = Annotated[Path, typer.Argument(metavar="STUDY", help="The study's folder.")]


@study_app.command("new")
def new(
    folder: Annotated[Path, typer.Argument(metavar="STUDY", help="The folder to make.")],
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="YAML: systems, prompts, and the options below.")
    ] = None,
    pictures: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FOLDER", help="A system by its pictures; same file names in all folders. Repeat it."
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Pairs that one rater is shown.", show_default="60")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Of the page.", show_default="Which picture?")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of sides and order, for nobody who rates.", show_default="drawn by lot")
    ] = None,
) -> None:
    """Make a study of pictures that are there, or that are drawn for it from fixed prompts and equal seeds.

    A file for --config: `systems: {base: {adapter: none}, adapted: {adapter: embedded}, other: {pictures: ./other}}`,
    `prompts: prompts.txt`, and if need be `seeds`, `questions`, `trials`, `repeats`, `checks`. The same command goes on
    after an interruption.
    """
    from llmdiff.study.config import StudyConfig

    given = {"trials": trials, "title": title, "seed": seed}
    settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if pictures:
        settings["systems"] = dict(_system(text) for text in pictures)
    if config is None and not pictures:
        raise typer.BadParameter("Say what is compared: by --config, or by --pictures NAME=FOLDER twice or more.")
    study_config = StudyConfig.make(**settings) if config is None else StudyConfig.read(config, **settings)
    console.quiet_hosts()
    from llmdiff.study.new import new_study

    with console.progress_bar() as progress:
        study = new_study(study_config, folder, progress)
    console.print_line(f"{folder}: {len(study.pairs)} pairs of {len(study.systems)} systems")


@study_app.command("serve")
def serve(
    folder: _Folder,
    host: serving_options.Host = serving_options.HERE,
    port: serving_options.Port = 8765,
) -> None:
    """Serve the page of a study. Every vote is kept at once; each browser is a rater of its own."""
    from llmdiff.study.plan import Study

    study = Study.load(folder)
    with extra("study"):
        from llmdiff.serving import serve as run
        from llmdiff.study.server import study_app as application
    run(application(study), host, port, lambda address: console.print_line(f"The study is at {address}"))


@study_app.command("export")
def export(
    folder: _Folder,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("study.html"),
) -> None:
    """Write one page with all pictures in it; whoever answers it sends back a file for `llmdiff study collect`."""
    from llmdiff.study.plan import Study

    study = Study.load(folder)
    with extra("study"):
        from llmdiff.study import export_page
    export_page(study, out)
    console.print_line(out)


@study_app.command("collect")
def collect(
    folder: _Folder,
    answers: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of answers.")],
) -> None:
    """Add files of answers, which came back from an exported page, to the votes of a study."""
    from llmdiff.study.plan import Study

    study = Study.load(folder)
    with extra("study"):
        from llmdiff.study import collect_answers
    console.print_line(f"{collect_answers(study, answers)} raters added")


@study_app.command("report")
def report(
    folder: _Folder,
    out: Annotated[
        Path | None, typer.Option(help="Where report.html, .png and .json go.", show_default="the study's folder")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Say which system is preferred, with intervals over raters and prompts, and what is missing for a verdict."""
    from llmdiff.study.plan import Study

    study = Study.load(folder)
    with extra("study"):
        from llmdiff.study import sentence, study_report, write_report

        result = study_report(study)
        written = write_report(result, out or folder)
    if as_json:
        console.print_json(result.as_json())
        return
    table = Table("question", "systems", "votes", "share of the first", "verdict", box=None)
    for one in result.comparisons:
        share = f"{one.share:.1%} ({one.low:.1%} – {one.high:.1%})"
        table.add_row(one.question, " : ".join(one.systems), str(one.votes), share, one.verdict)
    console.results.print(table)
    for one in result.comparisons:
        console.print_line(f"{one.question}: {sentence(one)}")
    for rater in result.raters:
        if rater.why_not:
            console.print_line(f"The votes of rater {rater.name[:8]} do not count: {rater.why_not}")
    console.print_line(f"Written: {', '.join(str(path) for path in written)}")


def _system(text: str) -> tuple[str, dict[str, str]]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise typer.BadParameter(f"{text!r} is not of the form NAME=FOLDER.")
    return name, {"pictures": folder}
