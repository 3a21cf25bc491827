"""The page: its head and its tabs."""

from pathlib import Path
from typing import Any

import gradio as gr

from llmdiff.app import parts
from llmdiff.app.context import LIGHT, Context
from llmdiff.app.form import keep, order, restore
from llmdiff.app.head import TITLE
from llmdiff.app.tab_draw import build_draw
from llmdiff.app.tab_gallery import build_gallery
from llmdiff.app.tab_runs import build_runs
from llmdiff.app.tab_sweep import build_sweep
from llmdiff.app.tab_why import build_why

_DRAW = "draw"
_RUNS = "Runs"
_AN_HOUR, _A_DAY = 3600, 24 * 3600


def build_page(context: Context) -> gr.Blocks:
    """The whole page, as Gradio's blocks."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(_AN_HOUR, _A_DAY), fill_width=True) as page:
        gr.HTML(_header(context))
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Draw", id=_DRAW):
                form = build_draw(context)
            with gr.Tab("Sweep", id="sweep") as sweep_tab:
                of_sweep = build_sweep(context, form)
            with gr.Tab("Why", id="why") as why_tab:
                of_why = build_why(context, form)
            with gr.Tab(_RUNS, id="runs"):
                timer = build_runs(context)
            with gr.Tab("Gallery", id="gallery") as gallery_tab:
                show, places = build_gallery(context, form, tabs, _DRAW)
        for tab, place in ((sweep_tab, of_sweep), (why_tab, of_why)):
            tab.select(order, keep(form), place, **LIGHT)
        tabs.select(_watch_runs, None, timer, **LIGHT)
        gallery_tab.select(show, None, places, **LIGHT)
        page.load(lambda stored: restore(context, stored), form.stored, keep(form), **LIGHT)
        page.unload(_leaver(context))
    return page


def _watch_runs(event: gr.SelectData) -> gr.Timer:
    """Looks for new figures of runs as long as their tab is open."""
    return gr.Timer(active=event.value == _RUNS)


def _leaver(context: Context) -> Any:
    def leave(request: gr.Request) -> None:
        """Stops what a visitor has asked for who is gone."""
        context.stop(request)

    return leave


def _header(context: Context) -> str:
    adapter = context.studio.renderer.adapter
    llm = Path(adapter.llm.name).name if adapter else "none"
    labels = list(context.studio.labels)
    more = f" + {len(labels) - 1}" if len(labels) > 1 else ""
    return parts.header(Path(context.studio.settings.base).name, llm, labels[0] + more)
