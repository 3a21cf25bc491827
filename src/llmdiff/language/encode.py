"""From prompts to encodings at inference."""

import hashlib
from collections.abc import Hashable, Sequence

import torch
import transformers
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from llmdiff.language.config import ReadingConfig
from llmdiff.language.encoding import Encoding
from llmdiff.language.model import LanguageModel
from llmdiff.language.reading import read_sum
from llmdiff.language.store import default_store
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
    weighted: bool = False,
) -> Encoding:
    """The encoding c of each prompt (method.md section 2), without gradients.

    Prompts encoded lately are remembered by content, unless noise is drawn: that is in training mode, and at
    inference when a generator is given. A prompt that is read on its own is also kept on disk, see
    `llmdiff.language.store`; one that is read in a batch is not, because its last bits depend on its company.

    Args:
        llm: the LLM.
        prompts: B texts, or a single one.
        config: how to read.
        text_encoding: the learned weights; the result is on their device and in their dtype.
        generator: of the noise.
        weighted: whether ``(word:1.3)`` multiplies a word's vectors by 1.3 **[choice]**, and is not text.

    Returns:
        Encoding with embeds (B, S, D) and mask (B, S), without the template's prefix.

    Raises:
        LLMDiffError: see `tokenize`.
    """
    texts = as_texts(prompts)
    reader = _Reader(llm, config, text_encoding, weighted)
    if text_encoding.noisy and (text_encoding.training or generator is not None):
        return _pad(reader.read(texts, generator))
    known = {text: embeds for text in dict.fromkeys(texts) if (embeds := reader.recall(text)) is not None}
    new = [text for text in dict.fromkeys(texts) if text not in known]
    for text, embeds in zip(new, reader.read(new), strict=True):
        reader.remember(text, embeds, alone=len(new) == 1)
        known[text] = embeds
    return _pad([known[text] for text in texts])


class _Reader:
    """One way to read prompts, with what is remembered of it in memory and on disk."""

    def __init__(self, llm: LanguageModel, config: ReadingConfig, text_encoding: TextEncoding, weighted: bool) -> None:
        self.llm, self.config, self.text_encoding, self.weighted = llm, config, text_encoding, weighted
        self.weights = text_encoding.weights()
        self.store = default_store()
        self.state: Hashable = (config, weighted, _digest(text_encoding), llm.dtype, str(llm.device), *self._form())

    def recall(self, text: str) -> Tensor | None:
        """The encoding (S, D) of a prompt, if it is known."""
        embeds = self.llm.encodings.get((text, self.state))
        if embeds is None and self.store:
            embeds = self.store.get(self._key(text))
            if embeds is not None:
                embeds = embeds.to(self.text_encoding.norm.weight.device)
                self.llm.encodings.put((text, self.state), embeds)
        return embeds

    def remember(self, text: str, embeds: Tensor, alone: bool) -> None:
        """Keep the encoding (S, D) of a prompt, also on disk if it was read alone."""
        self.llm.encodings.put((text, self.state), embeds)
        if alone and self.store:
            self.store.put(self._key(text), embeds)

    def read(self, texts: list[str], generator: torch.Generator | None = None) -> list[Tensor]:
        """One (S, D) per text, of its real tokens."""
        embeds: list[Tensor] = []
        for first in range(0, len(texts), BATCH):
            tokens = tokenize(self.llm, texts[first : first + BATCH], self.config, weighted=self.weighted)
            total = read_sum(self.llm, tokens, self.config, self.weights).to(self.weights.device)
            encoded = self.text_encoding.finish(total, generator)
            if tokens.weights is not None:
                encoded = encoded * tokens.weights[:, tokens.skip :, None].to(encoded)
            embeds += [row[mask] for row, mask in zip(encoded, tokens.kept.to(encoded.device), strict=True)]
        return embeds

    def _form(self) -> tuple[torch.dtype, str]:
        norm = self.text_encoding.norm.weight
        return norm.dtype, str(norm.device)

    def _key(self, text: str) -> str:
        """A hash of everything that the last bit of a prompt's encoding depends on."""
        tokens = tokenize(self.llm, [text], self.config, weighted=self.weighted)
        ids = (tokens.ids.tolist(), tokens.skip, None if tokens.weights is None else tokens.weights.tolist())
        identity = sorted(self.llm.identity().items())
        versions = (torch.__version__, transformers.__version__, torch.get_num_threads())
        content = (ids, self.state, identity, self.llm.content(), versions)
        return hashlib.sha256(repr(content).encode()).hexdigest()


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
