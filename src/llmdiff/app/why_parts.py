"""Pieces of HTML of an explanation."""

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from llmdiff.explanation import Exchanges, Explanation, Nearest
from llmdiff.explanation.plot import branches, overlay

_SIDE = 160  # pixels of a map on the page
_QUALITY = 82  # of its JPEG


def words(found: Explanation) -> str:
    """A card for each word, with its attention in each branch."""
    rows = branches(found)
    cards = "".join(
        f'<div class="ld-word"><h4>{escape(word.text)}</h4>'
        + "".join(_map(name, image, maps[number]) for name, image, maps in rows)
        + "</div>"
        for number, word in enumerate(found.adapted.words)
    )
    note = (
        "Where the attention of each word goes, each map by its own maximum: mean over layers, heads and steps. The "
        "number is the word's share of all attention."
    )
    return f'<p class="ld-note">{note}</p><div class="ld-words">{cards}</div>'


def nearest(found: Sequence[Nearest]) -> str:
    """The nearest prompts as a list."""
    if not found:
        return ""
    items = "".join(f"<li><b>{one.similarity:.2f}</b><span>{escape(one.prompt)}</span></li>" for one in found)
    return f'<p class="ld-note"><b>Nearest prompts</b>, as the LLM reads them</p><ul class="ld-nearest">{items}</ul>'


def moved(found: Exchanges) -> str:
    """How far each word moves when another one is exchanged, as a table whose cells are coloured."""
    texts = [escape(word.text) for word in found.words]
    most = float(np.nanmax(found.moved)) if np.isfinite(found.moved).any() else 1.0
    head = "".join(f"<th>{text}</th>" for text in texts)
    body = "".join(
        f"<tr><td>{_exchange(text, replacement)}</td>{''.join(_cell(value, most) for value in row)}</tr>"
        for text, replacement, row in zip(texts, found.replacements, found.moved, strict=True)
    )
    caption = "How far the vectors of each word move, in units of their length, when one is left out or exchanged"
    return (
        f'<div style="overflow-x:auto"><table class="ld-table"><caption>{caption}</caption>'
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _exchange(text: str, replacement: str) -> str:
    return f"{text} → {escape(replacement)}" if replacement else f"without {text}"


def _cell(value: float, most: float) -> str:
    if np.isnan(value):
        return "<td>–</td>"
    strength = value / max(most, 1e-9)
    return f'<td style="background:rgba(99,102,241,{0.75 * strength:.2f})">{value:.2f}</td>'


def _map(name: str, image: Image.Image, attention: np.ndarray) -> str:
    shown = overlay(_small(image), attention, float(attention.max()))
    label = escape(name.replace("\n", " "))
    return (
        f'<figure><img alt="{label}" src="data:image/jpeg;base64,{_encoded(shown)}">'
        f"<figcaption><span>{label}</span><span>{attention.mean():.1%}</span></figcaption></figure>"
    )


def _small(image: Image.Image) -> Image.Image:
    factor = _SIDE / max(image.size)
    return image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))))


def _encoded(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_QUALITY)
    return base64.b64encode(buffer.getvalue()).decode()
