"""Trains the embedded base of the world of things, slice by slice: `python -m world.train --minutes 9.5` in recipes.

A run is a folder. Each call goes on where the last one ended, however that ended, through all stages: the autoencoder,
the text encoder, single things on a small canvas, scenes; and, once they are done, saves the base to OUT/model.
"""

import os
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from llmdiff.errors import LLMDiffError
from world import settings as settings_file
from world.machine import Machine
from world.run import Run

_MOST_RESERVE = 20.0  # seconds, for the last checkpoint


def main(
    out: Path = Path("../runs/world"),
    settings: Annotated[str, typer.Option(help="full, tiny, or a YAML file")] = "full",
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="key.sub=value, scenes.steps=9 say")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="after which this slice ends; by default it goes on")] = None,
    until: Annotated[float | None, typer.Option(help="clock time of its end, in seconds since the epoch")] = None,
    device: str = "auto",
    precision: Annotated[str, typer.Option(help="bfloat16, float32, or what is faster")] = "auto",
    compiled: Annotated[bool | None, typer.Option(help="torch.compile; by default on a GPU")] = None,
    graphed: Annotated[bool | None, typer.Option(help="CUDA graphs; by default on a GPU")] = None,
    threads: Annotated[int | None, typer.Option(help="of a CPU; by default all")] = None,
) -> None:
    """Trains, or goes on training; ends after so many minutes, or when the base is done."""
    ends = [time.monotonic() + 60 * minutes] if minutes is not None else []
    ends += [time.monotonic() + until - time.time()] if until is not None else []
    if threads:
        torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True  # shapes are always the same
    deadline = _without_reserve(min(ends)) if ends else float("inf")
    run = Run(
        out, settings_file.load(settings, option or []), Machine.here(device, precision, compiled, graphed), deadline
    )
    try:
        done = run.go_on()
    except LLMDiffError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        typer.echo("Interrupted; the same command goes on.")
        raise typer.Exit(130) from None
    typer.echo(f"Done: {out / 'model'}" if done else "Out of time; the same command goes on.")


def _without_reserve(end: float) -> float:
    """When to stop training, to be done at `end` with the last checkpoint too; both of `time.monotonic`."""
    return end - min(_MOST_RESERVE, 0.1 * (end - time.monotonic()))


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    typer.run(main)
