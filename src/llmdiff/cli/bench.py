"""`llmdiff bench`: what things cost on this machine, as ratios to what they are compared with."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from llmdiff.cli import console, model_options
from llmdiff.errors import LLMDiffError, is_out_of_memory

bench_app = typer.Typer(
    help="Measure what things cost on this machine: in turn, as medians and ranges.", no_args_is_help=True
)


def _several(values: Sequence[Any], text: str, **options: Any) -> Any:
    """An option that may be repeated, with the values that it has where it is not given."""
    shown = ", ".join(map(str, values))
    return typer.Option(
        default_factory=lambda: list(values), help=f"{text}; may be repeated.", show_default=shown, **options
    )


Rounds = Annotated[int, typer.Option(min=1, help="In each of which every variant runs once.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@bench_app.command()
def encode(
    llm: Annotated[list[str], _several(["embedded"], "embedded, smollm2, 1b or 8b (random), or an LLM")],
    prompts: Annotated[list[int], _several([1, 8], "In one batch", min=1)],
    tokens: Annotated[list[int], _several([20, 200], "Of each prompt", min=2)],
    rounds: Rounds = 5,
    as_json: Json = False,
) -> None:
    """Reading prompts, beside one plain forward pass of the LLM."""
    console.quiet_hosts()
    from llmdiff.bench.encode import bench_encode

    rows = _Rows()
    for name in llm:
        for count in prompts:
            for length in tokens:
                rows.add(f"{name}, {count} × {length}", partial(bench_encode, name, count, length, rounds))
    _print(
        rows,
        as_json,
        {
            "LLM": lambda r: r.llm,
            "prompts × tokens": lambda r: f"{r.prompts} × {r.tokens}",
            "extraction": lambda r: r.time.variant,
            "ms": lambda r: f"{1000 * r.time.seconds:.1f}",
            "ratio": lambda r: f"{r.time.ratio:.2f}",
            "range": lambda r: f"{r.time.low:.2f} … {r.time.high:.2f}",
            "launches": lambda r: r.launches,
            "memory": lambda r: f"{r.memory / 1e6:.0f} MB",
            "of plain": lambda r: f"{r.memory_ratio:.2f}",
            "beside the LLM": lambda r: f"{r.call_memory / 1e6:.1f} MB",
            "of plain's": lambda r: f"{r.call_memory_ratio:.2f}",
        },
        rows.left_out,
    )


@bench_app.command()
def step(
    shape: Annotated[list[str], _several(["sd15", "sdxl"], "sd15, sdxl, pixart (random)")],
    side: Annotated[int | None, typer.Option(min=1, help="Of the latents.", show_default="that of the shape")] = None,
    tokens: Annotated[int, typer.Option(min=1, help="Of the encoding, and of IP-Adapter.")] = 77,
    width: Annotated[int, typer.Option(min=1, help="Of the LLM.")] = 2048,
    rounds: Rounds = 12,
    compiled: Annotated[bool, typer.Option("--compiled", help="Compile the denoiser.")] = False,
    as_json: Json = False,
) -> None:
    """A denoising step with an adapter, beside one without and one with IP-Adapter."""
    console.quiet_hosts()
    from llmdiff.bench.shapes import DENOISERS
    from llmdiff.bench.step import bench_step

    _check_known("shape", shape, DENOISERS)
    options: dict[str, Any] = {"side": side, "tokens": tokens, "width": width, "rounds": rounds, "compiled": compiled}
    rows = _Rows()
    for name in shape:
        rows.add(name, partial(bench_step, name, **options))
    _print(
        rows,
        as_json,
        {
            "shape": lambda r: f"{r.shape}, {r.pixels} px",
            "variant": lambda r: r.time.variant,
            "ms": lambda r: f"{1000 * r.time.seconds:.1f}",
            "ratio": lambda r: f"{r.time.ratio:.3f}",
            "range": lambda r: f"{r.time.low:.3f} … {r.time.high:.3f}",
            "launches": lambda r: r.launches or "",
            "more per layer": lambda r: r.launches_per_layer if r.launches else "",
        },
        rows.left_out,
    )


@bench_app.command()
def generate(
    batch_size: Annotated[list[int], _several([1, 4], "Pictures of a call", min=1)],
    base: Annotated[str, typer.Option(help="As for `llmdiff generate`.")] = "embedded",
    adapter: Annotated[str, typer.Option(help="As for `llmdiff generate`; none: the base alone.")] = "embedded",
    steps: Annotated[int, typer.Option(min=1, help="Of the schedule.")] = 30,
    rounds: Rounds = 5,
    device: model_options.Device = None,
    as_json: Json = False,
) -> None:
    """Pictures of known prompts, with an adapter and without, one by one and several in a call."""
    console.quiet_hosts()
    from llmdiff.bench.generate import bench_generate
    from llmdiff.generation import Models

    models = Models(base=base, adapter=None if adapter == "none" else adapter)
    rows = bench_generate(models, batch_size, steps, rounds, device)
    _print(
        rows,
        as_json,
        {
            "base": lambda r: r.base,
            "variant": lambda r: r.time.variant,
            "ms a call": lambda r: f"{1000 * r.time.seconds:.0f}",
            "ratio": lambda r: f"{r.time.ratio:.2f}",
            "range": lambda r: f"{r.time.low:.2f} … {r.time.high:.2f}",
            "pictures/s": lambda r: r.pictures_per_s,
        },
    )


@bench_app.command()
def train(
    base: Annotated[list[str], _several(["embedded", "sd15"], "embedded, sd15, sdxl or pixart (random), or a folder")],
    llm: Annotated[str, typer.Option(help="smollm2, 1b or 8b (random), or as in a recipe.")] = "embedded",
    side: Annotated[
        int | None,
        typer.Option(min=1, help="Of the latents.", show_default="that of the base; of a random one on a CPU, 32"),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures of a step.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Steps that count, of each case and of the floor.")] = 20,
    extraction: Annotated[str, typer.Option(help="Of the LLM: llmdiff, norm-mean, last, ...")] = "llmdiff",
    compiled: Annotated[bool, typer.Option("--compiled", help="Measure a compiled denoiser too.")] = False,
    as_json: Json = False,
) -> None:
    """Training, beside forward and backward pass of the denoiser on tensors that are ready."""
    console.quiet_hosts()
    from llmdiff.bench.train import CASES, COMPILED, Setting, bench_train

    rows = _Rows()
    for name in base:
        for case in [*CASES, *([COMPILED] if compiled else [])]:
            setting = Setting(name, llm, side, batch_size, steps, extraction=extraction)
            rows.add(f"{name}, {case}", partial(bench_train, setting, case))
    _print(
        rows,
        as_json,
        {
            "base": lambda r: r.base,
            "cached": lambda r: r.case,
            "images/s": lambda r: f"{r.images_per_s:.2f}",
            "floor": lambda r: f"{r.floor_images_per_s:.2f}",
            "share of the floor": lambda r: f"{r.share:.0%}",
            "floor, of the base's": lambda r: f"{r.floor_of_base:.2f}",
            "memory": lambda r: f"{r.peak_memory / 1e9:.2f} GB",
        },
        rows.left_out,
    )


@bench_app.command()
def growth(
    axis: Annotated[list[str], _several(["all"], "prompts, tokens, blocks, size, steps, pictures, or all")],
    base: Annotated[str, typer.Option(help="As for `llmdiff generate`.")] = "embedded",
    adapter: Annotated[str, typer.Option(help="As for `llmdiff generate`.")] = "embedded",
    rounds: Rounds = 5,
    plot: Annotated[Path | None, typer.Option(help="Draw it into an .svg or .png file.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """How time and memory grow with what is asked for: cost ~ size ** exponent."""
    console.quiet_hosts()
    from llmdiff.bench.growth import AXES, bench_growth, exponents
    from llmdiff.bench.growth import plot as draw
    from llmdiff.generation import Models

    _check_known("axis", axis, [*AXES, "all"])
    axes = list(AXES) if "all" in axis else axis
    rows = bench_growth(axes, rounds, Models(base=base, adapter=adapter))
    if plot is not None:
        draw(rows, plot)
    slopes = {one.axis: one for one in exponents(rows)}
    _print(
        rows,
        as_json,
        {
            "what grows": lambda r: r.axis,
            "size": lambda r: r.size,
            "ms": lambda r: f"{1000 * r.time.seconds:.1f}",
            "ratio": lambda r: f"{r.time.ratio:.2f}",
            "memory": lambda r: f"{r.memory / 1e6:.1f} MB",
            "exponent of time": lambda r: slopes[r.axis].time,
            "of memory": lambda r: slopes[r.axis].memory,
        },
    )


@bench_app.command()
def startup(rounds: Rounds = 3, as_json: Json = False) -> None:
    """Commands on the embedded default, from their start to their end."""
    console.quiet_hosts()
    from llmdiff.bench.startup import bench_startup

    rows = bench_startup(rounds)
    _print(
        rows,
        as_json,
        {
            "command": lambda r: r.command,
            "seconds": lambda r: f"{r.seconds:.2f}",
            "range": lambda r: f"{r.low:.2f} … {r.high:.2f}",
            "of processors": lambda r: f"{r.cpu_seconds:.2f}",
        },
    )


def _check_known(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    for name in given:
        if name not in known:
            raise typer.BadParameter(f"there is no {what} {name!r}: choose from {', '.join(known)}.")


class _Rows(list[Any]):
    """Figures.

    Attributes:
        left_out: what could not be measured because it does not fit into memory, a sentence each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.left_out: list[str] = []

    def add(self, name: str, measure: Callable[[], Iterable[Any]]) -> None:
        """Adds what `measure` returns, or that `name` does not fit."""
        from llmdiff.bench.measure import DoesNotFitError

        try:
            self.extend(measure())
        except DoesNotFitError as error:
            self.left_out.append(f"{name} does not fit: {error}")
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self.left_out.append(f"{name} does not fit: memory ran out.")


def _print(rows: Sequence[Any], as_json: bool, columns: dict[str, Any], left_out: Sequence[str] = ()) -> None:
    """Figures as a table, or all of them as JSON, with the name of the machine and what does not fit.

    Raises:
        LLMDiffError: nothing fits.
    """
    from llmdiff.bench.measure import machine

    if left_out and not rows:
        raise LLMDiffError(" ".join(left_out))
    if as_json:
        console.print_json({"machine": machine(), "rows": [asdict(row) for row in rows], "left_out": list(left_out)})
        return
    table = Table(*columns, box=None, title=machine(), title_justify="left")
    for row in rows:
        table.add_row(*(str(value(row)) for value in columns.values()))
    console.results.print(table)
    for line in left_out:
        console.results.print(line)
