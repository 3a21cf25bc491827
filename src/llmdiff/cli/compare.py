"""`llmdiff compare`: a grid of recipes, trained and scored alike."""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from llmdiff.cli import console
from llmdiff.errors import LLMDiffError


def compare(
    study: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The recipe, its conditions, and the scores.")],
    report: Annotated[bool, typer.Option("--report", help="Only write the report of what is there.")] = False,
    screen: Annotated[bool, typer.Option("--screen", help="Only distances, no pictures.")] = False,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the report to this file, its pictures beside it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Train and score every condition of a comparison with every seed, and report what is closer to the teacher.

    First the distance of every cell, which takes minutes each, then pictures of the conditions that the study names.
    Ctrl-C and kill stop it at any moment; the same command goes on where it was. Cells that are done are known by the
    content of their recipe. The report goes to the study's folder as Markdown, HTML and JSON.
    """
    console.quiet_hosts()
    from llmdiff.comparison import ComparisonConfig, read_findings, write_report
    from llmdiff.comparison import compare as run
    from llmdiff.comparison.report import summary
    from llmdiff.plots import check_matplotlib

    config = ComparisonConfig.read(study)
    check_matplotlib()
    failed: dict[str, str] = {}
    if not report:
        with console.progress_bar() as progress:
            failed = run(config, pictures=not screen, progress=progress)
    found = read_findings(config)
    written = write_report(found, f"llmdiff compare {shlex.quote(str(study))}", markdown)
    if as_json:
        console.print_json(found.as_json() | {"failed": failed})
    else:
        table = Table("condition", "seeds", "distance (95 %)", f"less {config.reference} (95 %)", "verdict", box=None)
        for row in found.rows:
            table.add_row(*summary(row, config.reference))
        console.results.print(table)
        for one in found.claims:
            console.print_line(f"{one.claim.say}: {one.word}")
        console.print_line(f"{found.done} of {found.total} cells are done; written: {', '.join(map(str, written))}")
    if failed:
        raise LLMDiffError(f"{len(failed)} cells could not be trained or scored, {next(iter(failed))} for one.")
