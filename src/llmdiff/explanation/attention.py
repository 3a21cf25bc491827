"""The attention of each word over a picture, in the base model's text branch and in the adapter's branch."""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

from llmdiff.base import ImageModel
from llmdiff.explanation.base_tokens import PromptIds
from llmdiff.explanation.recorder import AttentionRecorder
from llmdiff.explanation.words import Word, sum_of_words, tokens_of, words_of
from llmdiff.generation.record import PictureSettings
from llmdiff.generation.renderer import Renderer
from llmdiff.generation.watch import StepProgress
from llmdiff.language import emphasis
from llmdiff.language.spans import Span, prompt_spans


@dataclass(frozen=True)
class WordAttention:
    """A picture, and how much of the attention of each of its places goes to each word of its prompt.

    The shares of all words are less than 1 together: the rest goes to punctuation, padding and special tokens.

    Attributes:
        image: the picture, the same bit for bit as without looking.
        words: n of them.
        text: (n, height, width), of the layers' own attention, which reads the base model's text encoder or, in replace
            mode, φ(c); None if it is not known which tokens are which words.
        adapter: (n, height, width), of the adapter's branches; None without an adapter, or one that is idle.
    """

    image: Image.Image
    words: tuple[Word, ...]
    text: np.ndarray | None
    adapter: np.ndarray | None


def draw_attention(
    renderer: Renderer, settings: PictureSettings, on_step: StepProgress | None = None, *, with_adapter: bool = True
) -> WordAttention:
    """Draws a picture and looks where its words go.

    Args:
        renderer: with or without an adapter.
        settings: of the picture.
        on_step: called after every step.
        with_adapter: False has the base model draw alone.

    Raises:
        LLMDiffError: the picture cannot be drawn, or its attention cannot be seen.

    Example:
        >>> renderer = Renderer.load(Models(base="my-sd", adapter="my-adapter"), device="cpu")
        >>> width, height = renderer.default_size()
        >>> found = draw_attention(
        ...     renderer,
        ...     PictureSettings(prompt="a cup", steps=2, guidance=5, scale=1, seed=7, width=width, height=height),
        ... )
        >>> [word.text for word in found.words], found.adapter.shape
        (['a', 'cup'], (2, 4, 4))
    """
    if not with_adapter:
        with renderer.base_alone():
            return _draw(renderer, settings, on_step, with_adapter=False)
    return _draw(renderer, settings, on_step, with_adapter=renderer.adapter is not None)


def _draw(
    renderer: Renderer, settings: PictureSettings, on_step: StepProgress | None, *, with_adapter: bool
) -> WordAttention:
    adapter = renderer.adapter if with_adapter else None
    prompt = emphasis.plain(settings.prompt) if settings.prompt_weights else settings.prompt
    model = ImageModel(renderer.pipe)
    branches = adapter.named_branches() if adapter else {}
    with PromptIds(renderer.pipe) as read, AttentionRecorder(model, branches) as recorder:
        image = renderer.draw(settings, on_step)
    words = words_of(prompt)
    text, branch = recorder.maps("text"), recorder.maps("adapter")
    assert text is not None
    llm_spans = list(prompt_spans(adapter.llm, prompt, adapter.config.reading).spans) if adapter else None
    is_replaced = adapter is not None and adapter.config.mode == "replace"
    text_spans = llm_spans if is_replaced else read.spans(prompt, len(text))
    return WordAttention(image, tuple(words), _of_words(text, words, text_spans), _of_words(branch, words, llm_spans))


def _of_words(maps: Tensor | None, words: list[Word], spans: list[Span | None] | None) -> np.ndarray | None:
    """(S, height, width) of tokens to (n, height, width) of words."""
    if maps is None or spans is None:
        return None
    return sum_of_words(maps.numpy(), tokens_of(words, spans))
