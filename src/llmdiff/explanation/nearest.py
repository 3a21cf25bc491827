"""The prompts whose encodings are nearest to that of another one.

Letters in shapes: B prompts, D LLM width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.explanation.exchange import plain_prompts
from llmdiff.progress import Progress, silent


@dataclass(frozen=True)
class Nearest:
    """A prompt and the cosine between its encoding and the one that was asked about."""

    prompt: str
    similarity: float


def nearest_prompts(
    adapter: LLMDiffAdapter, prompt: str, among: Sequence[str], count: int = 5, progress: Progress | None = None
) -> list[Nearest]:
    """The prompts that the adapter reads most alike.

    An encoding is compared by the mean of its vectors, less what all prompts have in common (the mean over `among`),
    without which the cosine of any two prompts is near 1 **[choice]**.

    Args:
        adapter: whose encodings are compared.
        prompt: that is asked about; the same text among the others is passed over.
        among: the others.
        count: how many to give.
        progress: called with what is being done.

    Returns:
        The nearest first.

    Example:
        >>> [one.prompt for one in nearest_prompts(adapter, "a cup", ["a red cup", "two dogs at night"], count=1)]
        ['a red cup']
    """
    report = progress or silent
    others = [text for text in dict.fromkeys(among) if text.strip() != prompt.strip()]
    if not others:
        return []
    vectors: list[Tensor] = []
    with plain_prompts(adapter):
        for number, text in enumerate([prompt, *others]):
            report("Reading other prompts", number / (len(others) + 1))
            vectors.append(_mean_vector(adapter, text))
    stacked = torch.stack(vectors)
    centred = stacked - stacked[1:].mean(0)
    cosines = torch.nn.functional.cosine_similarity(centred[:1], centred[1:], dim=1)
    best = cosines.argsort(descending=True)[:count].tolist()
    return [Nearest(others[n], float(cosines[n])) for n in best]


def _mean_vector(adapter: LLMDiffAdapter, prompt: str) -> Tensor:
    """The mean over the tokens of a prompt's encoding, (D,)."""
    encoding = adapter.encode([prompt])
    return encoding.embeds[0][encoding.mask[0]].float().mean(0).cpu()
