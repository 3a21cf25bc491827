"""The tab that says why: attention of each word, weights of blocks, exchanged words, nearest prompts."""

from collections.abc import AsyncIterator
from typing import Any

import gradio as gr
import pandas as pd

from llmdiff.app import why_parts
from llmdiff.app.context import LIGHT, QUIET, Context, running
from llmdiff.app.form import Form, values
from llmdiff.app.jobs import Work
from llmdiff.errors import LLMDiffError
from llmdiff.explanation import BlockWeights, Explanation

_BLOCK, _WEIGHT = "block", "weight"


def build_why(context: Context, form: Form) -> gr.HTML:
    """The tab, whose prompt and settings are those of the form; gives the place that shows them."""
    order = gr.HTML(elem_id="why-order")
    with gr.Row(equal_height=False, elem_classes="ld-buttons"):
        with gr.Column(scale=5, min_width=300):
            exchange = gr.Textbox(
                "", label="Exchange words", info="others are left out, one by one", placeholder="red=green, ball=cup",
                max_length=500, elem_id="exchange",
            )  # fmt: skip
        with gr.Column(scale=3, min_width=300), gr.Row(elem_classes="ld-buttons"):
            ask = gr.Button("Explain", variant="primary", scale=3, elem_id="why-ask")
            stop = gr.Button(
                "Stop", scale=1, min_width=80, interactive=False, elem_id="why-stop", elem_classes="ld-quiet"
            )
    status = gr.HTML(elem_id="why-status")
    words = gr.HTML(elem_id="why-words")
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            blocks = gr.BarPlot(
                None, x=_BLOCK, y=_WEIGHT, title="Weight of each LLM block", height=300, visible=False,
                elem_id="why-blocks", x_title="block, in the order in which they run", y_title="learned weight",
                sort=None, buttons=[],
            )  # fmt: skip
        with gr.Column(min_width=300):
            nearest = gr.HTML(elem_id="why-nearest")
    moved = gr.HTML(elem_id="why-moved")

    async def on_ask(request: gr.Request, exchange_text: str, prompt: str, *settings: Any) -> AsyncIterator[Any]:
        def make() -> Work:
            request_of = context.studio.request([prompt], values(*settings))
            replacements = replacements_in(exchange_text)
            return lambda job: context.studio.why(job, request_of, replacements)

        async for shown in context.follow(request, make, lambda found: f"{len(found.adapted.words)} words"):
            yield shown.status, *_found(shown.found), *running(shown.is_running)

    ask.click(
        on_ask,
        [exchange, form.prompt, *form.settings],
        [status, words, blocks, nearest, moved, ask, stop],
        **QUIET,
    )
    stop.click(context.stop, None, None, **LIGHT)
    return order


def replacements_in(text: str) -> dict[str, str]:
    """What is to take the place of which word.

    Raises:
        LLMDiffError: a part is not of the form word=other.

    Example:
        >>> replacements_in("red=dark green, ball=cup")
        {'red': 'dark green', 'ball': 'cup'}
    """
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        word, equals, other = (piece.strip() for piece in part.partition("="))
        if not (word and equals):
            raise LLMDiffError(f"{part[:60]!r} is not of the form word=other.")
        found[word] = other
    return found


def _found(found: Explanation | None) -> list[Any]:
    if found is None:
        return [gr.skip()] * 4
    return [
        why_parts.words(found),
        gr.BarPlot(_frame(found.blocks), visible=True, x_lim=[0, len(found.blocks.weights) + 1]),
        why_parts.nearest(found.nearest),
        why_parts.moved(found.exchanges),
    ]


def _frame(blocks: BlockWeights) -> pd.DataFrame:
    numbers = range(1, len(blocks.weights) + 1)
    return pd.DataFrame({_BLOCK: list(numbers), _WEIGHT: blocks.weights.round(4)})
