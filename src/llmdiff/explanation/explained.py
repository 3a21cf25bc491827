"""Why a picture came out as it did: all that can be shown of one prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmdiff.errors import LLMDiffError
from llmdiff.explanation.attention import WordAttention, draw_attention
from llmdiff.explanation.blocks import BlockWeights, block_weights
from llmdiff.explanation.exchange import Exchanges, exchange_words
from llmdiff.explanation.nearest import Nearest, nearest_prompts
from llmdiff.explanation.words import check_exchanged, check_words
from llmdiff.generation.record import PictureSettings
from llmdiff.generation.renderer import Renderer
from llmdiff.language import emphasis
from llmdiff.progress import Progress, silent

_FINEST = 32  # places of a map in JSON, in each direction
_DRAWN, _COMPARED, _EXCHANGED = 0.4, 0.8, 0.9  # shares of the work that are done after each part


@dataclass(frozen=True)
class Explanation:
    """What `explain` finds.

    Attributes:
        settings: of the picture.
        adapted: attention under the adapter.
        base: that of the base model alone, drawn from the same seed; None if it lacks its text encoder.
        blocks: the weight of each block of the LLM.
        exchanges: how far the encoding moves when a word is exchanged.
        nearest: the prompts that the adapter reads most alike, the nearest first.
    """

    settings: PictureSettings
    adapted: WordAttention
    base: WordAttention | None
    blocks: BlockWeights
    exchanges: Exchanges
    nearest: tuple[Nearest, ...]

    def as_json(self) -> dict[str, Any]:
        """The same as plain numbers: shares of attention, maps of at most 32 x 32 places, weights, distances."""
        return {
            "picture": self.settings.model_dump(mode="json"),
            "words": [{"text": word.text, "begin": word.begin, "end": word.end} for word in self.adapted.words],
            "attention": {"base": _attention(self.base), "adapted": _attention(self.adapted)},
            "blocks": {"extraction": self.blocks.extraction, "weights": _rounded(self.blocks.weights)},
            "exchanges": {
                "replacements": list(self.exchanges.replacements),
                "moved": _rounded(self.exchanges.moved),
                "mean": _rounded(self.exchanges.totals()),
            },
            "nearest": [{"prompt": one.prompt, "similarity": round(one.similarity, 4)} for one in self.nearest],
        }


def explain(
    renderer: Renderer,
    settings: PictureSettings,
    *,
    replacements: Mapping[str, str] | None = None,
    among: Sequence[str] = (),
    nearest: int = 5,
    progress: Progress | None = None,
) -> Explanation:
    """Explains one picture: draws it with the adapter and without, and asks the adapter about its prompt.

    Args:
        renderer: with an adapter.
        settings: of the picture.
        replacements: what to put in the place of a word; other words are left out, one after the other.
        among: prompts of which the nearest are looked for.
        nearest: how many of them to give.
        progress: called with what is being done.

    Raises:
        LLMDiffError: there is no adapter, no word or more than 64 in the prompt, or the picture cannot be drawn.

    Example:
        >>> renderer = Renderer.load(Models(base="my-sd", adapter="my-adapter"), device="cpu")
        >>> width, height = renderer.default_size()
        >>> found = explain(
        ...     renderer,
        ...     PictureSettings(prompt="a cup", steps=2, guidance=5, scale=1, seed=7, width=width, height=height),
        ... )
        >>> found.blocks.weights.shape, found.exchanges.moved.shape
        ((4,), (2, 2))
    """
    adapter = renderer.adapter
    if adapter is None:
        raise LLMDiffError("Without an adapter there is nothing to explain: name one with --adapter.")
    prompt = emphasis.plain(settings.prompt) if settings.prompt_weights else settings.prompt
    check_words(prompt)
    check_exchanged(prompt, replacements or {})
    report = progress or silent
    adapted = draw_attention(renderer, settings, lambda share: report("Drawing", _DRAWN * share))
    base = _base_alone(renderer, settings, report)
    report("Exchanging words", _COMPARED)
    exchanges = exchange_words(adapter, prompt, replacements)
    found = nearest_prompts(
        adapter, prompt, among, nearest, lambda stage, share: report(stage, _EXCHANGED + (1 - _EXCHANGED) * share)
    )
    return Explanation(settings, adapted, base, block_weights(adapter), exchanges, tuple(found))


def _base_alone(renderer: Renderer, settings: PictureSettings, report: Progress) -> WordAttention | None:
    """The base model's own picture; None of a base model without its text encoder, for an adapter in replace mode."""
    if getattr(renderer.pipe, "text_encoder", None) is None:
        return None

    def on_step(share: float) -> None:
        report("Drawing (base model)", _DRAWN + (_COMPARED - _DRAWN) * share)

    return draw_attention(renderer, settings, on_step, with_adapter=False)


def _attention(found: WordAttention | None) -> dict[str, Any] | None:
    if found is None:
        return None
    maps = {"text": found.text, "adapter": found.adapter}
    return {name: None if values is None else _branch(values) for name, values in maps.items()}


def _branch(maps: np.ndarray) -> dict[str, Any]:
    return {"shares": _rounded(maps.mean((1, 2))), "maps": _rounded(coarser(maps, _FINEST))}


def coarser(maps: np.ndarray, finest: int) -> np.ndarray:
    """Maps (n, height, width) of at most so many places in each direction, each the mean of those in it."""
    factor = -(-max(maps.shape[1:]) // finest)
    if factor == 1:
        return maps
    for axis in (1, 2):
        starts = np.arange(0, maps.shape[axis], factor)
        counts = np.diff([*starts, maps.shape[axis]])
        sums = np.add.reduceat(maps, starts, axis)
        maps = sums / (counts[:, None] if axis == 1 else counts)
    return maps


def _rounded(values: np.ndarray) -> Any:
    """Nested lists of numbers; nan, for which JSON has no word, as None."""
    rounded = values.astype(float).round(5).astype(object)
    rounded[np.isnan(values)] = None
    return rounded.tolist()
