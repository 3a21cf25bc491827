"""From prompts to encodings at inference."""

import hashlib
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from llmdiff.language.config import ReadingConfig
from llmdiff.language.encoding import Encoding
from llmdiff.language.model import LanguageModel
from llmdiff.language.reading import read_sum
from llmdiff.language.text_encoding import TextEncoding
from llmdiff.language.tokens import as_texts, tokenize

BATCH = 16
"""How many prompts the LLM reads at once."""


@torch.no_grad()
def encode(
    llm: LanguageModel,
    prompts: Sequence[str],
    config: ReadingConfig,
    text_encoding: TextEncoding,
    *,
    generator: torch.Generator | None = None,
) -> Encoding:
    """The encoding c of each prompt (method.md section 2), without gradients.

    Prompts encoded lately are remembered by content, unless noise is drawn: that is in training mode, and at
    inference when a generator is given.

    Args:
        llm: the LLM.
        prompts: B texts, or a single one.
        config: how to read.
        text_encoding: the learned weights; the result is on their device and in their dtype.
        generator: of the noise.

    Returns:
        Encoding with embeds (B, S, D) and mask (B, S), without the template's prefix.

    Raises:
        LLMDiffError: see `tokenize`.
    """
    texts = as_texts(prompts)
    if text_encoding.noisy and (text_encoding.training or generator is not None):
        return _pad(_encode(llm, texts, config, text_encoding, generator))
    state = _state(llm, config, text_encoding)
    found = {text: llm.encodings.get((text, state)) for text in texts}
    known = {text: embeds for text, embeds in found.items() if embeds is not None}
    new = [text for text in found if text not in known]
    for text, embeds in zip(new, _encode(llm, new, config, text_encoding), strict=True):
        llm.encodings.put((text, state), embeds)
        known[text] = embeds
    return _pad([known[text] for text in texts])


def _encode(
    llm: LanguageModel,
    texts: list[str],
    config: ReadingConfig,
    text_encoding: TextEncoding,
    generator: torch.Generator | None = None,
) -> list[Tensor]:
    """One (S, D) per text, of its real tokens."""
    weights = text_encoding.weights()
    embeds: list[Tensor] = []
    for first in range(0, len(texts), BATCH):
        tokens = tokenize(llm, texts[first : first + BATCH], config)
        total = read_sum(llm, tokens, config, weights).to(weights.device)
        encoded = text_encoding.finish(total, generator)
        embeds += [row[mask] for row, mask in zip(encoded, tokens.kept.to(weights.device), strict=True)]
    return embeds


def _pad(embeds: list[Tensor]) -> Encoding:
    lengths = torch.tensor([len(row) for row in embeds], device=embeds[0].device)
    padded = pad_sequence(embeds, batch_first=True)
    return Encoding(padded, torch.arange(padded.shape[1], device=padded.device) < lengths.unsqueeze(1))


def _state(llm: LanguageModel, config: ReadingConfig, text_encoding: TextEncoding) -> Hashable:
    """Everything but the prompt that an encoding depends on, by content."""
    digest = hashlib.sha256()
    for name, weight in text_encoding.state_dict().items():
        digest.update(name.encode() + weight.float().cpu().numpy().tobytes())
    norm = text_encoding.norm.weight
    return config, digest.digest(), llm.dtype, str(llm.device), norm.dtype, str(norm.device)
