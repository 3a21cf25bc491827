"""The tab of sheets: scale by seed of one prompt, or adapter by prompt."""

import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

import gradio as gr

from llmdiff.app.context import LIGHT, QUIET, Context, running
from llmdiff.app.form import Form, values
from llmdiff.app.jobs import Work
from llmdiff.app.studio import Sheet
from llmdiff.errors import LLMDiffError

SCALES, ADAPTERS = "Scale × seed", "Adapter × prompt"
_MOST_SEEDS = 8
_PROMPTS = "a red ball to the left of a blue box\na green star at night\ntwo yellow cups"


def build_sweep(context: Context, form: Form) -> gr.HTML:
    """The tab, whose settings are those of the form where they do not vary; gives the place that shows them."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300):
            kind = gr.Radio([SCALES, ADAPTERS], value=SCALES, show_label=False, elem_id="sweep-kind")
            scales = gr.Textbox("0, 0.5, 1, 1.5", label="Scales", max_length=200, elem_id="sweep-scales")
            seeds = gr.Slider(1, _MOST_SEEDS, 3, step=1, label="Seeds, from that of the form on", elem_id="sweep-seeds")
            prompts = gr.Textbox(
                _PROMPTS,
                label="Prompts, one a line",
                lines=5,
                visible=False,
                max_length=20_000,
                elem_id="sweep-prompts",
            )
            given = gr.HTML(elem_id="sweep-order")
            with gr.Row(elem_classes="ld-buttons"):
                draw = gr.Button("Draw the sheet", variant="primary", scale=3, elem_id="sweep-draw")
                stop = gr.Button(
                    "Stop", scale=1, min_width=80, interactive=False, elem_id="sweep-stop", elem_classes="ld-quiet"
                )
        with gr.Column(scale=8, min_width=300):
            status = gr.HTML(elem_id="sweep-status")
            sheet = gr.Image(
                label="Sheet", show_label=False, interactive=False, format="png", type="pil",
                buttons=["download", "fullscreen"], elem_id="sheet",
            )  # fmt: skip

    def choose(chosen: str) -> list[Any]:
        of_scales = chosen == SCALES
        return [gr.update(visible=of_scales), gr.update(visible=of_scales), gr.update(visible=not of_scales)]

    async def on_draw(
        request: gr.Request,
        chosen: str,
        scale_text: str,
        seed_count: int,
        prompt_text: str,
        prompt: str,
        *settings: Any,
    ) -> AsyncIterator[Any]:
        def make() -> Work:
            fields = values(*settings)
            if chosen == ADAPTERS:
                order = context.studio.request(_lines(prompt_text), fields)
                return lambda job: context.studio.sweep_adapters(job, order)
            numbers = scales_in(scale_text)
            order = context.studio.request([prompt], {**fields, "num": seed_count})
            return lambda job: context.studio.sweep_scales(job, order, numbers)

        async for shown in context.follow(request, make, _finished):
            image = gr.skip() if shown.found is None else shown.found.image()
            yield shown.status, image, *running(shown.is_running)

    kind.change(choose, kind, [scales, seeds, prompts], **LIGHT)
    draw.click(
        on_draw, [kind, scales, seeds, prompts, form.prompt, *form.settings], [status, sheet, draw, stop], **QUIET
    )
    stop.click(context.stop, None, None, **LIGHT)
    return given


def scales_in(text: str) -> list[float]:
    """The numbers of a list of scales, each once.

    Raises:
        LLMDiffError: one is no number, or none from -10 to 10, or there is none.

    Example:
        >>> scales_in("0, 0.5 1")
        [0.0, 0.5, 1.0]
    """
    words = [word for word in re.split(r"[\s,;]+", text) if word]
    try:
        numbers = list(dict.fromkeys(float(word) for word in words))
    except ValueError as error:
        raise LLMDiffError("Scales are numbers, such as 0, 0.5, 1.") from error
    if not numbers or not all(-10 <= number <= 10 for number in numbers):
        raise LLMDiffError("Give scales between -10 and 10, such as 0, 0.5, 1.")
    return numbers


def _lines(text: str) -> Sequence[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _finished(sheet: Sheet) -> str:
    return f"{len(sheet.rows) * len(sheet.columns)} pictures"
