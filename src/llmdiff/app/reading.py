"""How much of a prompt is read, while it is typed: counted with tokenizers of its own, beside what is being drawn."""

import copy
import threading
from dataclasses import dataclass

from llmdiff.app.settings import LONGEST_PROMPT
from llmdiff.errors import LLMDiffError
from llmdiff.generation.call import BaseReading, base_reading, text_limit
from llmdiff.generation.renderer import Renderer
from llmdiff.language import emphasis
from llmdiff.language.spans import PromptSpans, prompt_spans


@dataclass(frozen=True)
class Reading:
    """What of a prompt is read.

    Attributes:
        prompt: the prompt without weights.
        llm: by the adapter's LLM; None without an adapter.
        base: by the base model's own text encoder; None if it has no limit.
    """

    prompt: str
    llm: PromptSpans | None
    base: BaseReading | None


class Reader:
    """Counts tokens.

    Tokenizers keep the settings of a call, so those that draw must not be used from another thread: these are copies.

    Args:
        renderer: whose adapter and base model read the prompts.
    """

    def __init__(self, renderer: Renderer) -> None:
        self._lock = threading.Lock()
        self._adapter = renderer.adapter
        if self._adapter is not None:
            self._llm = copy.copy(self._adapter.llm)
            self._llm.tokenizer = copy.deepcopy(self._adapter.llm.tokenizer)
        self._limit = text_limit(renderer.pipe)
        self._tokenizer = copy.deepcopy(getattr(renderer.pipe, "tokenizer", None))

    def read(self, prompt: str, prompt_weights: bool = False) -> Reading | None:
        """What of a prompt is read; None of one that cannot be counted."""
        if len(prompt) > LONGEST_PROMPT:
            return None
        with self._lock:
            try:
                text = emphasis.plain(prompt) if prompt_weights else prompt
                llm = prompt_spans(self._llm, text, self._adapter.config.reading) if self._adapter else None
                return Reading(text, llm, base_reading(self._tokenizer, self._limit, text))
            except LLMDiffError:
                return None
