"""The keys and values of a template's prefix, computed once for all prompts that follow it.

Letters in shapes: B batch, S tokens.
"""

import copy

from torch import Tensor
from transformers import Cache, DynamicCache

from llmdiff.language.model import LanguageModel
from llmdiff.language.transformers_internals import cache_options, holds_all, takes_keys_and_values_only

_KEPT = 4  # prefixes, for each LLM


def prefix_cache(llm: LanguageModel, ids: Tensor, skip: int) -> Cache | None:
    """Returns the keys and values of the first tokens of a batch of prompts, which are the same in all of them.

    Args:
        llm: the LLM.
        ids: (B, S), on the LLM's device.
        skip: the number of tokens that belong to the prefix.

    Returns:
        A cache of one's own to go on from, or None where there is no prefix or where blocks keep more than keys and
        values (recurrent ones, position biases over the whole sequence): then the LLM is to run on whole prompts.
    """
    if skip == 0 or llm.architecture != "decoder-only":
        return None
    key = tuple(ids[0, :skip].tolist())
    if key not in llm.prefixes:
        while len(llm.prefixes) >= _KEPT:
            del llm.prefixes[next(iter(llm.prefixes))]
        llm.prefixes[key] = _compute(llm, ids[:1, :skip])
    known = copy.deepcopy(llm.prefixes[key])  # a pass adds its own keys and values
    if known is not None and len(ids) > 1:
        known.batch_repeat_interleave(len(ids))
    return known


def _compute(llm: LanguageModel, ids: Tensor) -> Cache | None:
    """The keys and values of a prefix (1, S), if they are all that the blocks keep of it."""
    if not takes_keys_and_values_only(llm.blocks[0]):
        return None
    cache = DynamicCache(config=llm.config)
    llm.model(input_ids=ids, **cache_options(llm.model, cache))
    return cache if holds_all(cache, llm.block_count, ids.shape[1]) else None
