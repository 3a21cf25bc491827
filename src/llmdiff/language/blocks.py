"""Finding the transformer blocks that read a prompt, in a language model of any architecture."""

from collections import deque
from typing import Literal

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES,
)

from llmdiff.errors import LLMDiffError

Architecture = Literal["decoder-only", "encoder-only", "encoder-decoder"]


def find_stack(model: PreTrainedModel) -> PreTrainedModel:
    """The part of a model that reads the prompt: the decoder without its head, of an encoder-decoder the encoder.

    Raises:
        LLMDiffError: if the model is no transformers model.
    """
    if not isinstance(model, PreTrainedModel):
        raise LLMDiffError(f"{type(model).__name__} is not a transformers model; give a language model.")
    return model.get_encoder() if is_encoder_decoder(model.config) else model.get_decoder()


def find_blocks(stack: PreTrainedModel) -> nn.ModuleList:
    """The stack's T blocks in the order in which they run.

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
    """What kind of text model it is, by the table of method.md section 2.

    The text towers of contrastive models (CLIP) count as encoder-only, although their masks are causal: they were never
    trained to generate.
    """
    if is_encoder_decoder(model.config):
        return "encoder-decoder"
    contrastive = is_contrastive(stack.config.model_type)
    return "encoder-only" if contrastive or not is_causal(stack, device) else "decoder-only"


def is_encoder_decoder(config: PreTrainedConfig) -> bool:
    """Whether a config is of an encoder-decoder, or of the encoder alone of one."""
    return type(config) in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING and not getattr(config, "is_decoder", False)


def is_contrastive(model_type: str) -> bool:
    """Whether a model type is a contrastive image-text model, or the text tower of one."""
    return model_type.removesuffix("_text_model") in MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES


@torch.no_grad()
def is_causal(stack: PreTrainedModel, device: torch.device) -> bool:
    """Whether a token does not know of those after it, found out with two texts that differ in the second one."""
    ids = torch.tensor([[0, 1], [0, 2]], device=device)
    states = stack(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)[0].float()
    one, other = states[:, 0]
    return bool((one - other).norm() <= 1e-2 * one.norm())
