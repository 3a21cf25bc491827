"""ComfyUI's CONDITIONING with the encoding of an LLM in it.

A CONDITIONING is a list of pairs of text features, a tensor (R, T, W), and settings. The encoding is packed behind the
text features as it is for pipelines of diffusers (see `llmdiff.adapter.conditioning`), so whatever nodes and samplers
do to them (combining, concatenating, averaging, areas, masks, time ranges, batching, repeating) is done to it too.

Letters in shapes: R rows, T tokens of the text features, W their width, S tokens of the encoding, E its width.
"""

from typing import Any

import torch
from torch import Tensor

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.adapter.conditioning import TEXT_TOKENS, join
from llmdiff.errors import LLMDiffError
from llmdiff.language import Encoding

Conditioning = list[Any]
"""Of pairs ``[text features, settings]``."""
MADE_BY = "llmdiff_adapter"
"""The setting that says by which adapter an encoding was made."""


def condition(
    adapter: LLMDiffAdapter,
    text: str,
    own: Conditioning | None = None,
    *,
    prompt_weights: bool = True,
    made_by: str = "",
) -> Conditioning:
    """The CONDITIONING of a prompt.

    Args:
        adapter: with its LLM.
        text: the prompt, or the negative one.
        own: in augment mode, the same text as the model's own text encoder has it.
        prompt_weights: read ``(word:1.3)`` as a weight, which ComfyUI's own text encoders do.
        made_by: what tells the adapter from others.

    Returns:
        One pair for each of ``own``; in replace mode a single one of φ(c).

    Raises:
        LLMDiffError: in augment mode, if there are no text features of the model's own, or of another width than the
            adapter's model takes; in replace mode, if there are any.

    Example:
        >>> [[features, settings]] = condition(adapter, "a red cup", clip.encode_from_tokens_scheduled(tokens))
    """
    adapter.prompt_weights = prompt_weights
    encoding = adapter.encode([text])
    if adapter.config.mode == "replace":
        if own is not None:
            raise LLMDiffError("The adapter replaces the model's text encoder: connect neither clip nor conditioning.")
        return [_of_adapter(adapter, encoding, made_by)]
    if own is None:
        raise LLMDiffError("The adapter works beside the model's text encoder: connect clip or conditioning too.")
    width = adapter.config.base.context_width
    return [[_joined(features, encoding, width), {**settings, MADE_BY: made_by}] for features, settings in own]


def _joined(features: Tensor, encoding: Encoding, width: int) -> Tensor:
    if features.shape[-1] != width:
        raise LLMDiffError(
            f"The text features have a width of {features.shape[-1]}, and the adapter's model takes {width}: "
            f"connect the text encoder of that model, and nothing that an LLMDiff Encode has made."
        )
    return join(features, encoding.repeat_interleave(features.shape[0]))


@torch.no_grad()
def _of_adapter(adapter: LLMDiffAdapter, encoding: Encoding, made_by: str) -> list[Any]:
    """φ(c) and the pooled vector, in the place of what a text encoder makes; of a multiple of CLIP's tokens."""
    length = TEXT_TOKENS * -(-encoding.embeds.shape[1] // TEXT_TOKENS)
    encoding = encoding.pad(length)
    text = adapter.text(encoding)
    settings: dict[str, Any] = {MADE_BY: made_by}
    if text.pooled_prompt_embeds is not None:
        settings["pooled_output"] = text.pooled_prompt_embeds.float().cpu()
    return [join(text.prompt_embeds.float().cpu(), encoding), settings]
