"""The form of a picture: prompts with their tokens counted, seed, scale, and the settings that are seldom changed."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from llmdiff.app import parts
from llmdiff.app.context import LIGHT, Context
from llmdiff.app.settings import LONGEST_PROMPT, MOST_STEPS
from llmdiff.generation.record import PictureSettings

EXAMPLE = "a red ball to the left of a blue box"
_STORED = "llmdiff-form"


@dataclass(frozen=True)
class Form:
    """The components of the form; `values` makes fields of a `GenerationRequest` of what they hold."""

    prompt: gr.Textbox
    prompt_counts: gr.HTML
    negative: gr.Textbox
    negative_counts: gr.HTML
    seed: gr.Number
    new_seed: gr.Button
    scale: gr.Slider
    steps: gr.Slider
    guidance: gr.Slider
    size: gr.Textbox
    adapter: gr.Dropdown
    prompt_weights: gr.Checkbox
    rewrite: gr.Checkbox
    compare: gr.Checkbox
    stored: gr.BrowserState

    @property
    def settings(self) -> list[Any]:
        """All that a picture depends on but its prompt, in the order that `values` takes."""
        return [
            self.negative, self.seed, self.scale, self.steps, self.guidance, self.size, self.adapter,
            self.prompt_weights, self.rewrite,
        ]  # fmt: skip


NAMES = ("negative", "seed", "scale", "steps", "guidance", "size", "adapter", "prompt_weights", "rewrite")
"""What `Form.settings` are: fields of a request, and whether a proxy is to rewrite the prompt."""


def values(*given: Any) -> dict[str, Any]:
    """What `Form.settings` hold, as fields of a `GenerationRequest`."""
    fields = dict(zip(NAMES, given, strict=True))
    fields["size"] = (fields["size"] or "").strip() or None
    fields["seed"] = None if fields["seed"] is None else int(fields["seed"])
    return fields


def filled(picture: PictureSettings) -> Mapping[str, Any]:
    """What the form holds to draw a picture again, by the names of its components."""
    size = f"{picture.width}x{picture.height}"
    fields = picture.model_dump(include=set(NAMES) | {"prompt"})
    return fields | {"size": size, "rewrite": picture.rewriting is not None}


def order(prompt: str, *settings: Any) -> str:
    """The prompt and settings of the form, as other tabs show them."""
    fields = values(*settings)
    seed = "random" if fields["seed"] is None else fields["seed"]
    line = f"seed {seed} · scale {fields['scale']:g} · {fields['steps']:g} steps · guidance {fields['guidance']:g}"
    return parts.order(prompt, f"{line} · from the Draw tab")


def build_form(context: Context) -> Form:
    """The form, without the button that draws."""
    width, height = context.studio.default_size
    labels, proxy = list(context.studio.labels), context.studio.settings.proxy
    prompt = gr.Textbox(EXAMPLE, label="Prompt", lines=3, max_length=LONGEST_PROMPT, elem_id="prompt")
    prompt_counts = gr.HTML(_counts(context, EXAMPLE, False), elem_id="prompt-counts")
    negative = gr.Textbox("", label="Negative prompt", lines=1, max_length=LONGEST_PROMPT, elem_id="negative",
                          placeholder="what the picture should not show")  # fmt: skip
    negative_counts = gr.HTML(parts.counts(None), elem_id="negative-counts")
    scale = gr.Slider(0, 2, 1, step=0.05, label="Scale of the adapter", info="0 is the base model", elem_id="scale")
    with gr.Row(elem_classes="ld-buttons"):
        seed = gr.Number(7, label="Seed", precision=0, minimum=0, maximum=2**53 - 1, min_width=120, elem_id="seed")
        new_seed = gr.Button("New seed", min_width=96, scale=0, size="md", elem_id="new-seed", elem_classes="ld-quiet")
    with gr.Accordion("More settings", open=False):
        steps = gr.Slider(1, MOST_STEPS, 30, step=1, label="Steps", elem_id="steps")
        guidance = gr.Slider(0, 20, 5, step=0.5, label="Guidance", info="1 turns it off", elem_id="guidance")
        size = gr.Textbox("", label="Size", placeholder=f"{width}x{height}", max_length=16, elem_id="size")
        adapter = gr.Dropdown(labels, value=labels[0], label="Adapter", elem_id="adapter", visible=len(labels) > 1)
        prompt_weights = gr.Checkbox(False, label="Read (word:1.3) as a weight", elem_id="weights")
        rewrite = gr.Checkbox(
            False, label=f"Have {proxy.model} rewrite the prompt" if proxy else "", visible=proxy is not None,
            elem_id="rewrite",
        )  # fmt: skip
        compare = gr.Checkbox(True, label="Draw the base model's picture too", elem_id="compare")
    stored = gr.BrowserState(None, storage_key=_STORED, secret=_STORED)
    form = Form(
        prompt, prompt_counts, negative, negative_counts, seed, new_seed, scale, steps, guidance, size, adapter,
        prompt_weights, rewrite, compare, stored,
    )  # fmt: skip
    _connect(context, form)
    return form


def _connect(context: Context, form: Form) -> None:
    for box, place in ((form.prompt, form.prompt_counts), (form.negative, form.negative_counts)):
        gr.on(
            [box.change, form.prompt_weights.change],
            lambda text, weights: _counts(context, text, weights),
            [box, form.prompt_weights],
            place,
            trigger_mode="always_last",
            **LIGHT,
        )
    form.new_seed.click(lambda: secrets.randbelow(2**32), None, form.seed, **LIGHT)


def keep(form: Form) -> list[Any]:
    """The components whose values are kept in the browser, so that a reload does not lose them."""
    return [form.prompt, *form.settings]


def restore(context: Context, stored: Any) -> list[Any]:
    """The values of the components of `keep`, from what the browser has kept."""
    count = len(NAMES) + 1
    if not isinstance(stored, list) or len(stored) != count:
        return [gr.skip()] * count
    fields = dict(zip(("prompt", *NAMES), stored, strict=True))
    if fields["adapter"] not in context.studio.labels:
        fields["adapter"] = next(iter(context.studio.labels))
    return list(fields.values())


def _counts(context: Context, text: str, prompt_weights: bool) -> str:
    return parts.counts(context.reader.read(text, prompt_weights) if text.strip() else None)
