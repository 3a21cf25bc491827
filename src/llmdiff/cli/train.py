"""`llmdiff train`: a recipe in, an adapter out."""

from typing import Annotated

import typer

from llmdiff.cli import console


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe file (YAML), or the preset 'embedded'.")],
    option: Annotated[
        list[str] | None, typer.Option("-o", "--option", metavar="KEY=VALUE", help="Set a key of the recipe.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run of this recipe.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train an adapter by a recipe.

    Writes the adapter, sample sheets, and logs (JSONL and TensorBoard) to the recipe's folder. Ctrl-C saves; an
    interrupted run continues with --resume and ends with the same weights, bit for bit. For several GPUs or machines,
    start it with `accelerate launch -m llmdiff train RECIPE`.
    """
    console.quiet_hosts()
    from llmdiff.training import Interrupted
    from llmdiff.training import train as run
    from llmdiff.training.processes import is_main_process

    with console.progress_bar() as progress:
        try:
            summary = run(recipe, options=option or [], resume=resume, progress=progress)
        except Interrupted:
            if is_main_process():
                console.say("note", "Stopped; the same command with --resume goes on from here.", "bold")
            raise
    if is_main_process():
        console.print_json(summary) if as_json else console.print_line(summary["adapter"])
