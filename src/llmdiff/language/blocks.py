"""The transformer blocks of a language model of any architecture."""

from collections import deque
from typing import Literal

import torch
from torch import nn
from transformers import (
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING,
    PreTrainedConfig,
    PreTrainedModel,
)

from llmdiff.errors import LLMDiffError

Architecture = Literal["decoder-only", "encoder-only", "encoder-decoder"]


def find_stack(model: PreTrainedModel) -> PreTrainedModel:
    """Returns the part of a model that reads the prompt: a decoder without its head, or an encoder-decoder's encoder.

    Raises:
        LLMDiffError: if the model is no transformers model.
    """
    if not isinstance(model, PreTrainedModel):
        raise LLMDiffError(f"{type(model).__name__} is not a transformers model; give a language model.")
    return model.get_encoder() if is_encoder_decoder(model.config) else model.get_decoder()


def find_blocks(stack: PreTrainedModel) -> nn.ModuleList:
    """Returns the stack's T blocks in the order in which they run.

    They are the shallowest ``nn.ModuleList`` as long as the config's ``num_hidden_layers``.

    Raises:
        LLMDiffError: if there is none.
    """
    count = stack.config.get_text_config().num_hidden_layers
    queue: deque[nn.Module] = deque([stack])
    while queue:
        module = queue.popleft()
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
        queue.extend(module.children())
    raise LLMDiffError(
        f"No list of {count} blocks was found in {type(stack).__name__}; this language model cannot be read."
    )


def find_architecture(model: PreTrainedModel, stack: PreTrainedModel, device: torch.device) -> Architecture:
    """Returns the kind of a text model, by the table of docs/method.md section 2.

    The text towers of contrastive models (CLIP) count as encoder-only, although their masks are causal: they were never
    trained to generate.
    """
    if is_encoder_decoder(model.config):
        return "encoder-decoder"
    contrastive = is_contrastive(stack.config.model_type)
    return "encoder-only" if contrastive or not is_causal(stack, device) else "decoder-only"


def is_encoder_decoder(config: PreTrainedConfig) -> bool:
    """Returns whether a config is of an encoder-decoder, or of the encoder alone of one."""
    return type(config) in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING and not getattr(config, "is_decoder", False)


def is_contrastive(model_type: str) -> bool:
    """Returns whether a model type is a contrastive image-text model, or the text tower of one."""
    return model_type.removesuffix("_text_model") in {
        config.model_type for config in MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING
    }


@torch.no_grad()
def is_causal(stack: PreTrainedModel, device: torch.device) -> bool:
    """Returns whether no token depends on those after it, by a trial of two texts that differ in the second one."""
    ids = torch.tensor([[0, 1], [0, 2]], device=device)
    states = stack(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)[0].float()
    one, other = states[:, 0]
    return bool((one - other).norm() <= 1e-2 * one.norm())
