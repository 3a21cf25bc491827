"""From prompts to encodings at inference."""

import hashlib
import os
from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from llmdiff.language.config import ExtractionConfig
from llmdiff.language.encoding import Encoding, Tokens
from llmdiff.language.extraction import extract_stack, extract_sum
from llmdiff.language.model import LanguageModel
from llmdiff.language.store import default_store
from llmdiff.language.text_encoding import TextEncoding
from llmdiff.language.tokens import as_texts, tokenize
from llmdiff.language.transformers_internals import attention_implementation
from llmdiff.language.webui import warn_of_unsupported_syntax


@torch.inference_mode(mode=False)
@torch.no_grad()
def encode(
    llm: LanguageModel,
    prompts: Sequence[str],
    config: ExtractionConfig,
    text_encoding: TextEncoding,
    *,
    generator: torch.Generator | None = None,
    weighted: bool = False,
) -> Encoding:
    """Returns the encoding c of each prompt (docs/method.md section 2), without gradients.

    The LLM runs on one prompt at a time, and never under autocast: matrix products round differently in batches of
    different shapes, so only thus does an encoding depend on its own prompt alone, bit for bit. Prompts encoded lately
    are remembered by content, in memory and on disk (see `llmdiff.language.store`), unless noise is drawn: that is in
    training mode, and at inference when a generator is given.

    Warns of web-UI syntax that is read as plain text (see `llmdiff.language.webui`), and of prompts that are cut.

    Args:
        llm: the LLM.
        prompts: B texts, or a single one.
        config: the extraction.
        text_encoding: the learned weights; the result is on their device and in their dtype.
        generator: of the noise, drawn for one prompt after the other.
        weighted: True if ``(word:1.3)`` multiplies a word's vectors by 1.3 **[choice]**, and is not text.

    Returns:
        Encoding with embeds (B, S, D) and mask (B, S), without the template's prefix.

    Raises:
        LLMDiffError: see `tokenize`.

    Example:
        >>> text_encoding = TextEncoding(config, llm.width, llm.block_count).eval()
        >>> encode(llm, ["a red cup", ""], config, text_encoding).embeds.shape
        torch.Size([2, 4, 576])
    """
    texts = as_texts(prompts)
    for text in texts:
        warn_of_unsupported_syntax(text)
    encoder = _PromptEncoder(llm, config, text_encoding, weighted)
    noisy = text_encoding.noisy and (text_encoding.training or generator is not None)
    with torch.autocast(llm.device.type, enabled=False):
        if noisy:
            return _pad([encoder.compute(encoder.tokens(text), generator) for text in texts])
        known = {text: encoder.recall(text) for text in dict.fromkeys(texts)}
        return _pad([known[text] for text in texts])


class _PromptEncoder:
    """Encodes single prompts in one way, with caches in memory and on disk."""

    def __init__(
        self, llm: LanguageModel, config: ExtractionConfig, text_encoding: TextEncoding, weighted: bool
    ) -> None:
        self.llm, self.config, self.text_encoding, self.weighted = llm, config, text_encoding, weighted
        self.device = text_encoding.norm.weight.device
        self.store = default_store()
        norm = text_encoding.norm.weight
        form = (llm.dtype, norm.dtype, str(norm.device))
        content = llm.content()  # before anything is taken from a cache of it
        self.state: Hashable = (config, weighted, content, _digest(text_encoding), *form, *_arithmetic(llm))

    def recall(self, text: str) -> Tensor:
        """The encoding (S, D) of a prompt, which is computed if it is known neither in memory nor on disk."""
        tokens = self.tokens(text)
        key = self._key(tokens)
        embeds = self.llm.encodings.get(key)
        if embeds is None:
            embeds = self._from_disk(key, tokens)
            self.llm.encodings.put(key, embeds)
        return embeds

    def tokens(self, text: str) -> Tokens:
        """The tokens (1, S) of a prompt."""
        return tokenize(self.llm, [text], self.config, weighted=self.weighted)

    def compute(self, tokens: Tokens, generator: torch.Generator | None = None) -> Tensor:
        """The encoding (S, D) of a prompt from its tokens (1, S)."""
        embeds = self.text_encoding.finish(self._total(tokens).to(self.device), generator)
        if tokens.kept_weights is not None:
            embeds = embeds * tokens.kept_weights[..., None].to(embeds)
        return embeds[0]

    @cached_property
    def weights(self) -> Tensor:
        """The weight of each block's term, for all prompts that are computed: (T,)."""
        return self.text_encoding.weights()

    def _total(self, tokens: Tokens) -> Tensor:
        """The sum (1, S, D) of docs/method.md section 2, in the memory of one term where that is enough."""
        if not self.text_encoding.attends:
            return extract_sum(self.llm, tokens, self.config, self.weights)
        start, stack = extract_stack(self.llm, tokens, self.config)
        return self.text_encoding.total(start.to(self.device), stack.to(self.device))

    def _from_disk(self, key: str, tokens: Tokens) -> Tensor:
        if self.store is None:
            return self.compute(tokens)
        embeds = self.store.get(key)
        if embeds is not None:
            return embeds.to(self.device)
        embeds = self.compute(tokens)
        self.store.put(key, embeds)
        return embeds

    def _key(self, tokens: Tokens) -> str:
        """A hash of everything that the last bit of a prompt's encoding depends on."""
        weights = None if tokens.weights is None else tokens.weights.tolist()
        ids: tuple[Any, ...] = (tokens.ids.tolist(), tokens.skip, weights)
        if tokens.again is not None:
            ids = (*ids, tokens.again.tolist())
        identity = sorted(self.llm.identity().items())
        content = (ids, self.state, identity, torch.__version__, transformers.__version__)
        return hashlib.sha256(repr(content).encode()).hexdigest()


def _arithmetic(llm: LanguageModel) -> tuple[Hashable, ...]:
    """All that the rounding of the LLM's sums depends on, besides its weights and the versions of the libraries."""
    cuda = torch.cuda.get_device_name(llm.device) if llm.device.type == "cuda" else None
    processor = (torch.backends.cpu.get_cpu_capability(), os.environ.get("MKL_ENABLE_INSTRUCTIONS"), cuda)
    settings = (torch.get_num_threads(), torch.get_float32_matmul_precision(), attention_implementation(llm.config))
    return str(llm.device), *processor, *settings


def _pad(embeds: list[Tensor]) -> Encoding:
    lengths = torch.tensor([len(row) for row in embeds], device=embeds[0].device)
    padded = pad_sequence(embeds, batch_first=True)
    return Encoding(padded, torch.arange(padded.shape[1], device=padded.device) < lengths.unsqueeze(1))


def _digest(text_encoding: TextEncoding) -> bytes:
    """A hash of the learned weights."""
    digest = hashlib.sha256()
    for name, weight in text_encoding.state_dict().items():
        digest.update(name.encode() + weight.float().cpu().numpy().tobytes())
    return digest.digest()
