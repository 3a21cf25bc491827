"""The tab of pictures: what was drawn lately, and PNGs that are read back into the form."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio_client.utils import is_http_url_like

from llmdiff.app import parts
from llmdiff.app.context import LIGHT, QUIET, Context
from llmdiff.app.form import NAMES, Form, filled
from llmdiff.app.pictures import for_page, newest_pictures, read_back, thumbnail
from llmdiff.errors import LLMDiffError
from llmdiff.generation import Document
from llmdiff.generation.record import PictureSettings

_SIDE = 256  # pixels of a picture in the gallery


def build_gallery(context: Context, form: Form, tabs: gr.Tabs, draw_tab: str) -> Any:
    """The tab; gives the function and the outputs that show the newest pictures."""
    folder = context.studio.settings.out
    chosen = gr.State(None)
    listed = gr.State([])
    with gr.Row(equal_height=False):
        with gr.Column(scale=7, min_width=300):
            gallery = gr.Gallery(
                label="Drawn lately", show_label=False, columns=4, height="auto", object_fit="cover", interactive=False,
                allow_preview=False, buttons=[], elem_id="gallery",
            )  # fmt: skip
        with gr.Column(scale=5, min_width=300):
            upload = _upload()
            status = gr.HTML(
                parts.note("Choose a picture, or give a PNG that llmdiff has drawn."), elem_id="gallery-status"
            )
            picture = gr.Image(
                label="Picture", interactive=False, format="png", type="filepath", 
                buttons=["download", "fullscreen"], elem_id="gallery-picture", elem_classes="ld-picture",
            )  # fmt: skip
            facts = gr.HTML(elem_id="gallery-facts")
            use = gr.Button("Put its settings into the form", variant="primary", interactive=False, elem_id="use")
    shown = [status, picture, facts, use, chosen]

    def list_pictures() -> list[Any]:
        paths = newest_pictures(folder)
        return [[str(thumbnail(path, _SIDE)) for path in paths], [path.name for path in paths]]

    def choose(names: Sequence[str], event: gr.SelectData) -> list[Any]:
        index = event.index
        if not isinstance(index, int) or not 0 <= index < len(names):
            return [gr.skip()] * len(shown)
        return _shown(context, folder / Path(names[index]).name, is_own=True)

    def take(path: str | None) -> list[Any]:
        return [gr.skip()] * len(shown) if path is None else _shown(context, Path(path), is_own=False)

    def fill(settings: dict[str, Any] | None) -> list[Any]:
        count = len(NAMES) + 2
        if settings is None:
            return [gr.skip()] * count
        values = filled(PictureSettings.model_validate(settings))
        adapter = gr.skip()
        return [
            values["prompt"],
            *(values[n] if n != "adapter" else adapter for n in NAMES),
            gr.Tabs(selected=draw_tab),
        ]

    gallery.select(choose, listed, shown, **LIGHT)
    upload.upload(take, upload, shown, **QUIET)
    use.click(fill, chosen, [form.prompt, *form.settings, tabs], **LIGHT)
    return list_pictures, [gallery, listed]


def _upload() -> gr.UploadButton:
    """A button for one file of the visitor's machine, and nothing else: an address in its place is not fetched."""
    button = gr.UploadButton(
        "Read a PNG …", file_types=[".png"], file_count="single", size="md", elem_id="upload", elem_classes="ld-quiet"
    )
    take = button.async_move_resource_to_block_cache

    async def take_files(place: str | Path | None) -> str | None:
        if place is not None and is_http_url_like(str(place)):
            raise gr.Error("Only files are taken here, no addresses.")
        return await take(place)

    vars(button)["async_move_resource_to_block_cache"] = take_files
    return button


def _shown(context: Context, path: Path, *, is_own: bool) -> list[Any]:
    """Updates that show a picture, or say what is wrong with it."""
    try:
        image, document = read_back(path)
    except LLMDiffError as error:
        return [parts.problem(error), None, "", gr.Button(interactive=False), None]
    settings = document.pictures[0].picture
    return [
        _difference(context, document),
        str(for_page(path)) if is_own else image,
        parts.facts(_facts(document)),
        gr.Button(interactive=True),
        settings.model_dump(mode="json"),
    ]


def _facts(document: Document) -> dict[str, Any]:
    record = document.pictures[0]
    picture = record.picture
    return {
        "prompt": picture.prompt[:2000],
        "negative": picture.negative[:2000] or "–",
        "seed": picture.seed,
        "steps": picture.steps,
        "guidance": f"{picture.guidance:g}",
        "scale": f"{picture.scale:g}",
        "size": f"{picture.width} × {picture.height}",
        "base": Path(record.models.base).name,
        "adapter": Path(record.models.adapter).name if record.models.adapter else "none",
    }


def _difference(context: Context, document: Document) -> str:
    """Whether the same models would draw it again here."""
    then, now = document.pictures[0].provenance, context.studio.renderer.provenance()
    if then.base_hash != now.base_hash:
        return parts.problem(LLMDiffError("It was drawn by another base model than the one here."))
    if then.adapter_hash not in (None, *context.studio.adapter_hashes()):
        return parts.problem(LLMDiffError("It was drawn with another adapter than those here."))
    return parts.done("The models that drew it are here.")
