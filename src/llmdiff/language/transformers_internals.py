"""The inside of transformers: names and conventions that this package needs and transformers does not document.

Nothing else in this package relies on them. Each has a test of its own name, which fails when transformers changes.
"""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicLayer, PreTrainedConfig, PreTrainedModel, modeling_gguf_pytorch_utils
from transformers.cache_utils import DynamicSlidingWindowLayer
from transformers.utils import logging

ATTENTION_MASK = "attention_mask"
"""The argument of a block that is its mask; one of 4 dimensions is taken as it is."""

SEQUENCE_BOUND = ("alibi", "shared_kv_states")
"""Arguments of a block that are made for a whole sequence and cannot be folded: ALiBi's position biases (Bloom,
Falcon-RW), and keys and values that blocks share (Gemma 4)."""

UNKNOWN_BIAS = "position_bias"
"""The argument of blocks whose position biases are of their own kind and cannot be taken apart (MPT)."""


def is_context(name: str, value: Any) -> bool:
    """Returns whether an argument of a block says something of other tokens: a mask or a cache."""
    return "mask" in name or isinstance(value, Cache)


def hidden_states(output: Any) -> Tensor:
    """Returns the hidden states in what a block returns, which is a tensor or a tuple that begins with it."""
    return output if isinstance(output, Tensor) else output[0]


def takes_keys_and_values_only(block: nn.Module) -> bool:
    """Returns whether all that a block needs of earlier tokens are keys and values, by the names of its arguments."""
    accepted = inspect.signature(block.forward).parameters
    return not any(name in accepted for name in (*SEQUENCE_BOUND, UNKNOWN_BIAS))


def cache_options(model: PreTrainedModel, cache: Cache | None) -> dict[str, Any]:
    """Returns the arguments with which a model goes on from a cache, and adds to it: 5.24 has renamed one."""
    if cache is None:
        return {"use_cache": False}
    name = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
    return {name: cache, "use_cache": True}


def holds_all(cache: Cache, blocks: int, length: int) -> bool:
    """Returns whether a cache is the plain keys and values of so many tokens in so many blocks, and nothing else."""
    return len(cache.layers) == blocks and all(_holds(layer, length) for layer in cache.layers)


def _holds(layer: object, length: int) -> bool:
    plain = type(layer) in (DynamicLayer, DynamicSlidingWindowLayer)
    keys = getattr(layer, "keys", None)
    return plain and isinstance(keys, Tensor) and keys.shape[-2] == length


def attention_implementation(config: PreTrainedConfig) -> str | None:
    """Returns the name of the attention that a model computes with, on which its rounding depends."""
    return getattr(config, "_attn_implementation", None)


def input_device(model: PreTrainedModel) -> torch.device:
    """Returns the device of a model's input, which its hooks of accelerate know if its weights wait elsewhere."""
    hooks = (getattr(module, "_hf_hook", None) for module in model.modules())
    placed = (getattr(hook, "execution_device", None) for hook in hooks)
    return torch.device(next((device for device in placed if device is not None), model.device))


def obey_progress_bar_setting() -> None:
    """Lets the bar of dequantising a GGUF file follow ``disable_progress_bar`` of transformers, as its others do."""
    if hasattr(modeling_gguf_pytorch_utils, "tqdm"):
        modeling_gguf_pytorch_utils.tqdm = logging.tqdm
