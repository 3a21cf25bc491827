"""Where the tokens of an encoding stand in their prompt, and how much of a prompt is read."""

from dataclasses import dataclass

from llmdiff.language.config import ExtractionConfig
from llmdiff.language.model import LanguageModel
from llmdiff.language.tokens import as_texts, character_spans, make_frame, token_limit

Span = tuple[int, int]
"""The first character of a token in its prompt, and the one after its last."""


@dataclass(frozen=True)
class PromptSpans:
    """How a prompt is cut into tokens.

    Attributes:
        spans: of each of the S tokens of the encoding; None of those that the template or the tokenizer has put there.
        count: tokens of the prompt, with those that are cut.
        limit: how many of them are read.
        read: characters of the prompt that are read: all, unless it is cut.
    """

    spans: tuple[Span | None, ...]
    count: int
    limit: int
    read: int

    @property
    def is_cut(self) -> bool:
        """True if the end of the prompt is not read."""
        return self.count > self.limit


def prompt_spans(llm: LanguageModel, prompt: str, config: ExtractionConfig) -> PromptSpans:
    """Returns where the tokens of a prompt's encoding, as `encode` makes it, stand in the prompt.

    Args:
        llm: whose tokenizer is used.
        prompt: without weights of words.
        config: template and token limit.

    Raises:
        LLMDiffError: if the tokenizer does not know where its tokens are, or the template does not fit the LLM.

    Example:
        >>> prompt_spans(llm, "a cat", ExtractionConfig(template="Draw: {prompt}")).spans[-1][1]
        5
    """
    [text] = as_texts([prompt])
    frame = make_frame(llm.tokenizer, config.template)
    limit = token_limit(llm, frame, config)
    shift = len(frame.spaces)
    found = [(max(0, begin - shift), max(0, end - shift)) for begin, end in character_spans(llm, frame.spaces + text)]
    around = len(frame.prefix) - frame.skip, len(frame.suffix)
    spans: tuple[Span | None, ...] = (*[None] * around[0], *found[:limit], *[None] * around[1])
    is_cut = len(found) > limit
    return PromptSpans(spans or (None,), len(found), limit, found[limit - 1][1] if is_cut else len(text))
