"""The command line's root: its help and its commands."""

import sys
from collections.abc import Sequence

import typer

from llmdiff import __version__
from llmdiff.cli import console
from llmdiff.cli.bench import bench_app
from llmdiff.cli.compare import compare
from llmdiff.cli.data import data_app
from llmdiff.cli.demo import demo
from llmdiff.cli.entry import INTERRUPTED, main
from llmdiff.cli.evaluate import evaluate_app
from llmdiff.cli.explain import explain
from llmdiff.cli.generate import generate
from llmdiff.cli.models import models_app
from llmdiff.cli.regenerate import regenerate
from llmdiff.cli.serve import serve
from llmdiff.cli.study import study_app
from llmdiff.cli.train import train
from llmdiff.cli.ui import ui

__all__ = ["app", "main", "run"]

HELP = """Any decoder-only LLM in charge of an existing diffusers text-to-image model.

An LLMDiff adapter joins the two: the prompt goes through the LLM, each of its blocks is read as one denoising step,
and the encoding made of all of them drives the image model's cross-attention. Without further options everything is
embedded: SmolLM2-135M as the LLM, and a miniature Stable Diffusion that draws picture-book scenes at 64x64, on a
laptop and offline once the LLM has been fetched (93 MB, on first use).

**Examples**

    llmdiff generate "a red ball left of a blue box"
    llmdiff generate "a scarlet boat" --compare --num 4 --seed 7
    llmdiff generate "a cat" --base ./sd15 --adapter you/adapter
    llmdiff generate --prompts prompts.jsonl --out pictures
    llmdiff generate "the animal that barks" --proxy http://localhost:8000/v1 --proxy-model qwen3-32b
    llmdiff regenerate out/a-scarlet-boat-s7.png
    llmdiff explain "a scarlet boat" --exchange scarlet=blue
    llmdiff train embedded -o loop.steps=2000
    llmdiff data check ./pictures
    llmdiff study new study --pictures base=./base --pictures mine=./mine
    llmdiff serve --port 8000
    llmdiff ui --adapter embedded --runs runs
    llmdiff models pull embedded

**Output**

Results go to stdout, as JSON with --json; progress, warnings and errors go to stderr. The exit status is 0, 1 for an
error, 2 for a mistake on the command line, 3 for a picture that `regenerate` drew differently, 130 when interrupted,
143 when told to end by SIGTERM.

**Environment**

- LLMDIFF_HOME: where fetched models, encodings and rewritings of prompts are kept (default: ~/.cache/llmdiff)
- LLMDIFF_ENCODINGS_MB: how much disk encodings of prompts may take (default: 512; 0: none are kept)
- OPENAI_API_KEY: the key of the endpoint that --proxy names, or of another variable by --proxy-key-env
- LLMDIFF_API_KEY: the key that clients of `llmdiff serve` must send
- LLMDIFF_UI_PASSWORD: the password that `llmdiff ui --auth` asks for
- LLMDIFF_TRACEBACK: 1 shows developers where an error comes from
- HF_HOME: where models from the Hugging Face Hub are kept (default: ~/.cache/huggingface)
"""

app = typer.Typer(
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(generate)
app.command()(regenerate)
app.command()(explain)
app.command()(train)
app.add_typer(data_app, name="data")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(study_app, name="study")
app.command()(serve)
app.command()(compare)
app.command()(demo)
app.command()(ui)
app.add_typer(bench_app, name="bench")
app.add_typer(models_app, name="models")


def _print_version(wanted: bool) -> None:
    if wanted:
        console.print_line(f"llmdiff {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    """Hold the options of `llmdiff` itself."""


def run(arguments: Sequence[str] | None) -> int:
    """Run a command and return its exit status; what goes wrong is raised.

    Raises:
        KeyboardInterrupt: it was interrupted.
    """
    command = typer.main.get_command(app)
    args = None if arguments is None else list(arguments)
    with console.one_line_warnings():
        try:
            status = command.main(args, prog_name="llmdiff", standalone_mode=False)
        except typer.Abort as error:  # at a question
            raise KeyboardInterrupt from error
        sys.stdout.flush()
    if status == INTERRUPTED:  # as which typer returns it
        raise KeyboardInterrupt
    return status if isinstance(status, int) else 0
