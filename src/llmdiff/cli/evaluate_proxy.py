"""`llmdiff evaluate proxy`: what a proxy's rewritings are worth."""

from typing import Annotated, Any

import typer
from rich.table import Table

from llmdiff.cli import console
from llmdiff.cli.proxy_options import with_proxy
from llmdiff.errors import LLMDiffError

_IMPLIED = "implied"


@with_proxy
def evaluate_proxy(
    proxy: Any = None,
    group: Annotated[
        list[str] | None, typer.Option(help="Of prompts; several may be given.", show_default="implied, unseen words")
    ] = None,
    base: Annotated[str, typer.Option(help="Base model that draws picture-book scenes.")] = "embedded",
    adapter: Annotated[str, typer.Option(help="'embedded', a folder, a Hub id, or 'none'.")] = "embedded",
    seeds: Annotated[int, typer.Option(min=1, max=10_000, help="Pictures per prompt.")] = 2,
    limit: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Only that many prompts of each group.", show_default="all")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Share of right pictures of prompts as they are, and as a proxy rewrites them, with 95 % bootstrap intervals.

    By the base model and by the adapted one, from the same noise. The implied prompts name neither thing nor colour
    nor background; the other groups are those of `llmdiff evaluate scenes`, v1.
    """
    console.quiet_hosts()
    if proxy is None:
        raise LLMDiffError("There is no proxy to evaluate: give --proxy and --proxy-model.")
    from llmdiff import evaluation

    prompts = _prompts(group or [_IMPLIED, "unseen words"], limit)
    with console.progress_bar() as progress:
        rows = evaluation.evaluate_proxy(proxy, prompts, base, adapter, seeds, progress=progress)
    if as_json:
        console.print_json(rows)
        return
    table = Table("group", "model", "wording", "prompts", "rewritten", "all facts right", "95 % interval", box=None)
    for row in rows:
        sign = "+" if row["wording"] == "gain" else ""
        share, low, high = (f"{100 * row[key]:{sign}.1f}" for key in ("share", "low", "high"))
        counts = str(row["prompts"]), str(row["rewritten"])
        table.add_row(row["group"], row["model"], row["wording"], *counts, share, f"{low} – {high}")
    console.results.print(table)


def _prompts(names: list[str], limit: int | None) -> list[Any]:
    from llmdiff.evaluation import implied_prompts, scene_prompts
    from llmdiff.evaluation.prompts import GROUPS

    if unknown := sorted(set(names) - {_IMPLIED, *GROUPS}):
        raise LLMDiffError(f"There is no group {unknown[0]!r}: there are {', '.join((_IMPLIED, *GROUPS))}.")
    rest = [prompt for prompt in scene_prompts(limit) if prompt.group in names]
    return (implied_prompts(limit) if _IMPLIED in names else []) + rest
