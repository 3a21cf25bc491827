"""The inside of transformers: names and conventions that this package needs and transformers does not document.

Nothing else in this package relies on them. Each has a test of its own name, which fails when transformers changes.
"""

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    Cache,
    DynamicLayer,
    PreTrainedConfig,
    PreTrainedModel,
    modeling_gguf_pytorch_utils,
)
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


def with_hidden_states(output: Any, states: Tensor) -> Any:
    """Returns what a block returned, with other hidden states in it."""
    return states if isinstance(output, Tensor) else (states, *output[1:])


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


def set_attention_implementation(config: PreTrainedConfig, name: str | None) -> None:
    """Notes in a config the attention that a model of it computes with, as loading the model does."""
    config._attn_implementation = name


def input_device(model: PreTrainedModel) -> torch.device:
    """Returns the device of a model's input, which its hooks of accelerate know if its weights wait elsewhere."""
    hooks = (getattr(module, "_hf_hook", None) for module in model.modules())
    placed = (getattr(hook, "execution_device", None) for hook in hooks)
    return torch.device(next((device for device in placed if device is not None), model.device))


@dataclass(frozen=True)
class Attended:
    """One call of an attention function that transformers dispatches.

    Letters in shapes: B batch, S tokens, P tokens of a cache, H heads, K heads of keys and values, d width of a head's
    values.

    Attributes:
        module: the attention layer.
        value: (B, K, P + S, d).
        heads: H.
        length: S.
        sinks: whether tokens attend something besides tokens.
    """

    module: nn.Module
    value: Tensor
    heads: int
    length: int
    sinks: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """(B, S, H · d), of the attention with its heads side by side."""
        return self.value.shape[0], self.length, self.heads * self.value.shape[-1]

    def pair(self, attention: Tensor) -> Tensor:
        """An attention (B, S, H · d) and beside it that of each token to itself alone: (2, B, S, H · d).

        Of one prompt: (2, S, H · d).
        """
        batch, groups, _, width = self.value.shape
        alone = self.value[:, :, -self.length :].transpose(1, 2).unsqueeze(3)  # (B, S, K, 1, d)
        both = attention.new_empty(2, *attention.shape)
        both[0] = attention
        both[1].view(batch, self.length, groups, self.heads // groups, width).copy_(alone)
        return both.squeeze(1) if batch == 1 else both


_SDPA = "sdpa"
_WATCHING = threading.local()


@contextmanager
def attention_watched(see: Callable[[Attended], None]) -> Iterator[None]:
    """Within this context ``see`` is called after each SDPA that transformers dispatches in this thread.

    Nothing is seen of other implementations. One context at a time.
    """
    attention = AttentionInterface()[_SDPA]

    def watched(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
        result = attention(module, query, key, value, *args, **kwargs)
        if getattr(_WATCHING, "see", None) is not None:
            sinks = kwargs.get("s_aux") is not None
            _WATCHING.see(Attended(module, value, query.shape[1], query.shape[2], sinks))
        return result

    _WATCHING.see = see
    AttentionInterface.register(_SDPA, watched)
    try:
        yield
    finally:
        AttentionInterface.register(_SDPA, attention)
        _WATCHING.see = None


def obey_progress_bar_setting() -> None:
    """Lets the bar of dequantising a GGUF file follow ``disable_progress_bar`` of transformers, as its others do."""
    if hasattr(modeling_gguf_pytorch_utils, "tqdm"):
        modeling_gguf_pytorch_utils.tqdm = logging.tqdm
