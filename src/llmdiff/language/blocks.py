"""Finding the transformer blocks of any decoder-only LLM."""

from collections import deque

import torch
from torch import nn
from transformers import PreTrainedModel

from llmdiff.errors import LLMDiffError


def find_decoder(model: PreTrainedModel) -> PreTrainedModel:
    """The decoder inside a model: no LM head, no vision tower.

    Raises:
        LLMDiffError: if the model is an encoder-decoder or no transformers model.
    """
    name = type(model).__name__
    if not isinstance(model, PreTrainedModel):
        raise LLMDiffError(f"{name} is not a transformers model; give a decoder-only language model.")
    if model.config.is_encoder_decoder:
        raise LLMDiffError(f"{name} is an encoder-decoder; choose a decoder-only language model.")
    return model.get_decoder()


def find_blocks(decoder: PreTrainedModel) -> nn.ModuleList:
    """The decoder's T blocks in the order in which they run.

    They are the shallowest ``nn.ModuleList`` as long as the config's ``num_hidden_layers``.

    Raises:
        LLMDiffError: if there is none.
    """
    count = decoder.config.get_text_config().num_hidden_layers
    queue: deque[nn.Module] = deque([decoder])
    while queue:
        module = queue.popleft()
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
        queue.extend(module.children())
    raise LLMDiffError(
        f"No list of {count} blocks was found in {type(decoder).__name__}; this language model cannot be read."
    )


@torch.no_grad()
def check_causal(decoder: PreTrainedModel, device: torch.device) -> None:
    """Run two texts of two tokens that differ in the second: the first must not know of it.

    Raises:
        LLMDiffError: if it does, as in encoder-only models.
    """
    ids = torch.tensor([[0, 1], [0, 2]], device=device)
    states = decoder(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)[0].float()
    one, other = states[:, 0]
    if (one - other).norm() > 1e-2 * one.norm():
        raise LLMDiffError(
            f"In {type(decoder).__name__} a token sees those after it; choose a decoder-only language model."
        )
