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
_READING = (
    "Where the attention of each word goes: in the base model's own picture; with the LLM, in the layers' own "
    "attention (text) and in the adapter's. Colours go up to each map's own maximum, the number is the word's share of "
    "all attention."
)
_MOVED = "How far the vectors of each word move, in units of their length, when one is left out or exchanged"


def words(found: Explanation) -> str:
    """A card for each word, with its attention in each branch."""
    rows = [(name, image, maps) for name, (_, image, maps) in zip(_names(found), branches(found), strict=True)]
    cards = "".join(
        f'<div class="ld-word"><h4>{escape(word.text)}</h4><div>'
        + "".join(_map(name, image, maps[number]) for name, image, maps in rows)
        + "</div></div>"
        for number, word in enumerate(found.adapted.words)
    )
    return f'<p class="ld-note">{_READING}</p><div class="ld-words">{cards}</div>'


def _names(found: Explanation) -> list[str]:
    """Short names of the branches whose attention is known, in the order of `branches`."""
    base = found.base is not None and found.base.text is not None
    known = {"base model": base, "text": found.adapted.text is not None, "adapter": found.adapted.adapter is not None}
    return [name for name, is_known in known.items() if is_known]


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
    return (
        f'<p class="ld-title">{_MOVED}</p><div class="ld-scroll"><table class="ld-table">'
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
    label = escape(name)
    return (
        f'<figure><img alt="{label}" src="data:image/jpeg;base64,{_encoded(shown)}">'
        f"<figcaption><span>{label}</span><b>{attention.mean():.1%}</b></figcaption></figure>"
    )


def _small(image: Image.Image) -> Image.Image:
    factor = _SIDE / max(image.size)
    return image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))))


def _encoded(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_QUALITY)
    return base64.b64encode(buffer.getvalue()).decode()
