"""The tab that draws: the base model's picture and the adapter's beside each other, from one seed."""

from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from llmdiff.app import parts
from llmdiff.app.context import LIGHT, QUIET, Context, running
from llmdiff.app.form import Form, build_form, values
from llmdiff.app.jobs import Work
from llmdiff.app.pictures import for_page
from llmdiff.app.studio import Pair


def build_draw(context: Context) -> Form:
    """The tab, and its form, from which other tabs take settings."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=300):
            form = build_form(context)
            with gr.Row(elem_classes="ld-buttons"):
                draw = gr.Button("Draw", variant="primary", scale=3, elem_id="draw")
                stop = gr.Button(
                    "Stop", scale=1, min_width=80, interactive=False, elem_id="stop", elem_classes="ld-quiet"
                )
        with gr.Column(scale=7, min_width=300):
            status = gr.HTML(elem_id="status")
            rewritten = gr.HTML(elem_id="rewritten")
            with gr.Row():
                base = _picture(context, "Base model", "base-picture")
                adapted = _picture(context, "With the LLM", "adapted-picture")

    async def on_draw(request: gr.Request, prompt: str, compare: bool, *settings: Any) -> AsyncIterator[Any]:
        def make() -> Work:
            order = context.studio.request([prompt], {**values(*settings), "compare": compare})
            return lambda job: context.studio.draw(job, order)

        async for shown in context.follow(request, make, _seed_of):
            yield (
                shown.status,
                _rewritten(shown.found),
                *_pictures(shown.found),
                *running(shown.is_running),
                [prompt, *settings],
            )

    gr.on(
        [draw.click, form.prompt.submit],
        on_draw,
        [form.prompt, form.compare, *form.settings],
        [status, rewritten, base, adapted, draw, stop, form.stored],
        **QUIET,
    )
    stop.click(context.stop, None, None, **LIGHT)
    return form


def _seed_of(pair: Pair) -> str:
    return f"seed {pair.seed}"


def _rewritten(pair: Pair | None) -> Any:
    """What a proxy has made of the prompt, and what it failed in; nothing as long as nothing is drawn."""
    if pair is None or pair.adapted is None:
        return gr.skip()
    order = parts.order(" · ".join(pair.rewritten), "This is drawn in the place of the prompt.")
    return "".join([*([order] if pair.rewritten else []), *map(parts.note, pair.words)])


def _pictures(found: Pair | None) -> tuple[Any, Any]:
    """What the two places show: nothing new as long as there is none."""
    if found is None:
        return gr.skip(), gr.skip()
    places = [path if path is None else str(for_page(path)) for path in (found.base, found.adapted)]
    return places[0], places[1]


def _picture(context: Context, label: str, name: str) -> gr.Image:
    small = context.studio.default_size[0] < 256
    return gr.Image(
        label=label,
        interactive=False,
        format="png",
        type="filepath",
        min_width=150,
        buttons=["download", "fullscreen"],
        elem_id=name,
        elem_classes=["ld-picture", *(["ld-small"] if small else [])],
    )
