"""An explanation as one picture."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from llmdiff.explanation.attention import WordAttention
from llmdiff.explanation.blocks import BlockWeights
from llmdiff.explanation.exchange import Exchanges
from llmdiff.explanation.explained import Explanation
from llmdiff.explanation.nearest import Nearest
from llmdiff.files import written_whole
from llmdiff.plots import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_ACROSS = 8  # words in a row
_READING = (
    "Grey: the picture. Colour: where the attention\nof a word goes, by its own maximum.\n\n"
    "The number is the word's share of all\nattention: the rest goes to other words,\npunctuation and padding.\n\n"
    "Mean over layers, heads and steps."
)
_CELL = 1.15  # inches
_LABEL = 1.2
_PANELS = 4.4  # height of what is below the words
_INK, _FAINT, _ACCENT = "#1f2430", "#6b7280", "#5b5bd6"
_FONTS = ["Noto Sans CJK JP", "DejaVu Sans"]
_SMALL = 256  # pixels: what is smaller shows them
_LONGEST = 14  # characters of a word that is shown


def write_figure(explanation: Explanation, path: Path, *, replace: bool = True) -> None:
    """Writes an explanation as a PNG: the pictures, the attention of each word, blocks, exchanges, nearest prompts.

    Raises:
        LLMDiffError: if matplotlib is not installed.
        OSError: if the file cannot be written, or is there and not to be replaced.
    """
    drawn = figure(explanation)
    with written_whole(path, replace=replace) as draft:
        drawn.savefig(draft, format="png", dpi=110)


def figure(explanation: Explanation) -> "Figure":
    """An explanation as a figure of matplotlib.

    Raises:
        LLMDiffError: if matplotlib is not installed.
    """
    rows = branches(explanation)
    blocks_of_words = -(-len(explanation.adapted.words) // _MOST_ACROSS)
    across = -(-len(explanation.adapted.words) // blocks_of_words)
    heights = [2.6, *[_CELL * len(rows) + 0.35] * blocks_of_words, _PANELS]
    whole = new_figure(_LABEL + _MOST_ACROSS * _CELL, sum(heights) + 0.6, facecolor="white")
    whole.suptitle(_wrapped(explanation.settings.prompt, 90), fontsize=12, color=_INK, fontweight="bold")
    parts: Any = whole.subfigures(len(heights), 1, height_ratios=heights)
    _pictures(parts[0], explanation)
    for number in range(blocks_of_words):
        first = number * across
        _words(parts[1 + number], rows, explanation.adapted.words[first : first + across], first)
    panels = parts[-1].subplots(1, 3, width_ratios=[1.1, 1.2, 1])
    block_panel(panels[0], explanation.blocks)
    exchange_panel(panels[1], explanation.exchanges)
    _nearest_panel(panels[2], explanation.nearest)
    return whole


def branches(explanation: Explanation) -> list[tuple[str, Image.Image, np.ndarray]]:
    """The branches whose attention is known: a name, the picture that was drawn, and maps (n, height, width)."""
    base, adapted = explanation.base, explanation.adapted
    found: list[tuple[str, WordAttention | None, np.ndarray | None]] = [
        ("base model", base, base.text if base else None),
        ("with LLM:\ntext branch", adapted, adapted.text),
        ("with LLM:\nadapter", adapted, adapted.adapter),
    ]
    return [(name, one.image, maps) for name, one, maps in found if one is not None and maps is not None]


def overlay(image: Image.Image, attention: np.ndarray, most: float) -> Image.Image:
    """A picture in grey, and where attention (height, width) goes in colour; `most` is full colour."""
    grey = np.asarray(image.convert("L"), dtype=np.float32)[..., None] / 255
    small = Image.fromarray((np.clip(attention / max(most, 1e-9), 0, 1) * 255).astype(np.uint8))
    strength = np.asarray(small.resize(image.size, Image.Resampling.BICUBIC), dtype=np.float32)[..., None] / 255
    paper = 0.35 + 0.55 * grey
    mixed = paper * (1 - 0.85 * strength) + _heat(strength) * 0.85 * strength
    return Image.fromarray((np.clip(mixed, 0, 1) * 255).astype(np.uint8))


def _heat(strength: np.ndarray) -> np.ndarray:
    """From violet over red to yellow, (..., 1) to (..., 3)."""
    stops, colours = [0.0, 0.5, 1.0], np.array([(0.35, 0.25, 0.80), (0.95, 0.30, 0.30), (1.0, 0.90, 0.25)])
    return np.stack([np.interp(strength[..., 0], stops, colours[:, channel]) for channel in range(3)], -1)


def _pictures(part: Any, explanation: Explanation) -> None:
    shown = [("base model", explanation.base), ("with LLM", explanation.adapted)]
    known = [(name, one.image) for name, one in shown if one is not None]
    *pictures, reading = part.subplots(1, len(known) + 1)
    for axes, (name, image) in zip(pictures, known, strict=True):
        axes.imshow(image, interpolation="nearest" if image.width < _SMALL else "antialiased")
        axes.set_title(name, fontsize=10, color=_FAINT)
        axes.axis("off")
    reading.axis("off")
    reading.text(0, 0.5, _READING, va="center", fontsize=9, color=_FAINT, transform=reading.transAxes)


def _words(part: Any, rows: list[tuple[str, Image.Image, np.ndarray]], words: Any, first: int) -> None:
    """The maps of some words, a row for each branch; each is coloured by its own maximum, the number is its share."""
    grid = part.subplots(len(rows), _MOST_ACROSS + 1, squeeze=False, width_ratios=[_LABEL, *[_CELL] * _MOST_ACROSS])
    for axes in grid.flat:
        axes.axis("off")
    for (name, image, maps), line in zip(rows, grid, strict=True):
        line[0].text(1, 0.5, name, ha="right", va="center", fontsize=9, color=_FAINT, transform=line[0].transAxes)
        for axes, attention in zip(line[1:], maps[first : first + len(words)], strict=False):
            axes.imshow(overlay(image, attention, attention.max()))
            axes.set_title(f"{attention.mean():.1%}", fontsize=7, color=_FAINT, pad=2)
    for axes, word in zip(grid[0][1:], words, strict=False):
        share = axes.get_title()
        axes.set_title(f"{_short(word.text)}\n{share}", fontsize=8, color=_INK, pad=2, fontfamily=_fonts())


def block_panel(axes: "Axes", blocks: BlockWeights) -> None:
    """The weight of each block as bars, and as a line those of an untrained adapter."""
    numbers = np.arange(1, len(blocks.weights) + 1)
    axes.bar(numbers, blocks.weights, color=_ACCENT, width=0.75)
    axes.plot(numbers, blocks.start, color=_FAINT, linestyle="--", linewidth=1, label="untrained")
    axes.set_title(f"Weight of each LLM block ({blocks.extraction})", fontsize=9, color=_INK)
    axes.set_xlabel("block, in the order in which they run", fontsize=8, color=_FAINT)
    axes.legend(fontsize=7, frameon=False)
    _plain(axes)


def exchange_panel(axes: "Axes", exchanges: Exchanges) -> None:
    """How far each word moves when another one is exchanged, as a matrix."""
    labels = [_short(word.text) for word in exchanges.words]
    shown = axes.imshow(np.ma.masked_invalid(exchanges.moved), cmap="magma_r", vmin=0, aspect="auto")
    given = [f"{label} → {_short(text)}" if text else f"without {label}" for label, text in zip(
        labels, exchanges.replacements, strict=True)]  # fmt: skip
    size = 8 if len(labels) <= 12 else 5
    axes.set_xticks(range(len(labels)), labels, rotation=60, ha="right", fontsize=size, fontfamily=_fonts())
    axes.set_yticks(range(len(labels)), given, fontsize=size, fontfamily=_fonts())
    axes.set_title("How far each word moves (of its length)", fontsize=9, color=_INK)
    axes.figure.colorbar(shown, ax=axes, shrink=0.8).ax.tick_params(labelsize=7)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def _nearest_panel(axes: "Axes", nearest: tuple[Nearest, ...]) -> None:
    axes.axis("off")
    axes.set_title("Nearest prompts", fontsize=9, color=_INK, loc="left")
    lines = [f"{one.similarity:.2f}   {_wrapped(one.prompt, 34, '          ')}" for one in nearest]
    text = "\n\n".join(lines) or "none asked for"
    axes.text(0, 0.97, text, va="top", fontsize=8, color=_INK, transform=axes.transAxes, fontfamily=_fonts())


def _plain(axes: "Axes") -> None:
    axes.tick_params(labelsize=7, colors=_FAINT)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _short(text: str) -> str:
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return text.replace("$", r"\$")


def _wrapped(text: str, width: int, indent: str = "") -> str:
    return textwrap.fill(text.replace("$", r"\$"), width, subsequent_indent=indent, max_lines=4)


def _fonts() -> list[str]:
    """Fonts that are here, of those that have many scripts."""
    from matplotlib import font_manager

    known = {font.name for font in font_manager.fontManager.ttflist}
    return [name for name in _FONTS if name in known]
