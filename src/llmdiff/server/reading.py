"""How much of a prompt is read, told for each request: the models themselves tell of each prompt only once."""

from dataclasses import dataclass

from llmdiff.errors import LLMDiffError
from llmdiff.generation.call import base_reading, text_limit
from llmdiff.generation.record import PictureSettings
from llmdiff.generation.renderer import Renderer
from llmdiff.language import emphasis
from llmdiff.language.spans import prompt_spans


@dataclass(frozen=True)
class PromptReading:
    """What is read of a prompt.

    Attributes:
        tokens: Of the prompt, as the LLM counts them, or the base model where it draws alone.
        cuts: Sentences on what is not read.
    """

    tokens: int
    cuts: tuple[str, ...]


def read_prompt(renderer: Renderer, settings: PictureSettings) -> PromptReading:
    """Counts the tokens of a prompt, or of what a proxy has made of it.

    Args:
        renderer: Whose models read it; nobody else may use them meanwhile.
        settings: With the prompt.
    """
    texts = [emphasis.plain(text) if settings.prompt_weights else text for text in settings.texts]
    found = [_read(renderer, text) for text in texts]
    cuts = dict.fromkeys(cut for one in found for cut in one.cuts)
    return PromptReading(sum(one.tokens for one in found), tuple(cuts))


def _read(renderer: Renderer, text: str) -> PromptReading:
    tokens, cuts = 0, []
    adapter = renderer.adapter
    base = base_reading(getattr(renderer.pipe, "tokenizer", None), text_limit(renderer.pipe), text)
    if base is not None and (adapter is None or adapter.config.mode == "augment"):
        tokens = base.count
        if base.lost:
            cuts.append(f"The base model's text encoder reads {base.limit} of the prompt's {base.count} tokens.")
    if adapter is not None:
        try:
            spans = prompt_spans(adapter.llm, text, adapter.config.reading)
        except LLMDiffError:  # a tokenizer that does not know where its tokens are
            return PromptReading(tokens, tuple(cuts))
        tokens = spans.count
        if spans.is_cut:
            cuts.append(
                f"The LLM reads {spans.limit} of the prompt's {spans.count} tokens: its first {spans.read} characters."
            )
    return PromptReading(tokens, tuple(cuts))
