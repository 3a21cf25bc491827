"""A template's prefix, read once: its keys and values serve every prompt that follows it.

Letters in shapes: B batch, S tokens.
"""

import copy
import inspect
from typing import Any

from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from llmdiff.language.alone import SEQUENCE_BOUND, UNKNOWN
from llmdiff.language.model import LanguageModel

_KEPT = 4
"""How many prefixes an LLM remembers."""


def prefix_cache(llm: LanguageModel, ids: Tensor, skip: int) -> Cache | None:
    """The keys and values of the first tokens of a batch of prompts, which are the same in all of them.

    Args:
        llm: the LLM.
        ids: (B, S), on the LLM's device.
        skip: how many tokens belong to the prefix.

    Returns:
        A cache of one's own to go on from, or None where there is no prefix or where blocks keep more than keys and
        values (recurrent ones, position biases over the whole sequence): then everything is to be read together.
    """
    if skip == 0 or llm.architecture != "decoder-only":
        return None
    key = tuple(ids[0, :skip].tolist())
    if key not in llm.prefixes:
        while len(llm.prefixes) >= _KEPT:
            del llm.prefixes[next(iter(llm.prefixes))]
        llm.prefixes[key] = _read(llm, ids[:1, :skip])
    known = copy.deepcopy(llm.prefixes[key])  # a pass adds its own keys and values
    if known is not None and len(ids) > 1:
        known.batch_repeat_interleave(len(ids))
    return known


def _read(llm: LanguageModel, ids: Tensor) -> Cache | None:
    """The keys and values of a prefix (1, S), if they are all that the blocks keep of it."""
    accepted = inspect.signature(llm.blocks[0].forward).parameters
    if any(name in accepted for name in (*SEQUENCE_BOUND, UNKNOWN)):
        return None
    cache = DynamicCache(config=llm.config)
    llm.model(input_ids=ids, **cache_options(llm.model, cache))
    whole = [layer for layer in cache.layers if _holds(layer, ids.shape[1])]
    return cache if len(whole) == len(cache.layers) == llm.block_count else None


def cache_options(model: PreTrainedModel, cache: Cache | None) -> dict[str, Any]:
    """How a model is told to go on from a cache, and to add to it; transformers renames the argument from 5.24 on."""
    if cache is None:
        return {"use_cache": False}
    name = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
    return {name: cache, "use_cache": True}


def _holds(layer: object, length: int) -> bool:
    """Whether a block's part of the cache is the plain keys and values of that many tokens."""
    plain = type(layer) in (DynamicLayer, DynamicSlidingWindowLayer)
    keys = getattr(layer, "keys", None)
    return plain and isinstance(keys, Tensor) and keys.shape[-2] == length
