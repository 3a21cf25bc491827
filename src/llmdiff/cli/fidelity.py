"""`llmdiff evaluate fidelity`: what a language model in fewer bits still reads."""

from typing import Annotated

import typer
from rich.table import Table

from llmdiff.cli import console
from llmdiff.home import home


def fidelity(
    llm: Annotated[str, typer.Option(help="A name of `llmdiff models list`, a folder, a GGUF file or a Hub id.")] = (
        "embedded"
    ),
    dtype: Annotated[str, typer.Option(help="float32, float16 or bfloat16.")] = "float32",
    quantization: Annotated[
        str | None, typer.Option(help="int8 (torchao), 8bit or 4bit (bitsandbytes).", show_default="none")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="What it is compared with, in float32.", show_default="the same model")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compare a language model in fewer bits with itself in float32: cosines of what is read of each block."""
    console.quiet_hosts()
    from llmdiff.evaluation.fidelity import evaluate_fidelity

    keep_in = home() / "evaluations"
    with console.progress_bar() as progress:
        result = evaluate_fidelity(
            llm, dtype=dtype, quantization=quantization, reference=reference, progress=progress, keep_in=keep_in
        )
    if as_json:
        console.print_json(result)
        return
    table = Table("block", "mean cosine", "least cosine", box=None)
    for row in result["blocks"]:
        table.add_row(str(row["block"]), f"{row['mean']:.5f}", f"{row['least']:.5f}")
    table.add_section()
    table.add_row("encoding", *(f"{result['encoding'][key]:.5f}" for key in ("mean", "least")))
    console.results.print(table)
