"""Tiny random models of many decoder-only families, and a slow extraction to compare with."""

import inspect
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

SIZES: dict[str, Any] = {
    "vocab_size": 265,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
NO_GROUPS: dict[str, Any] = {"num_key_value_heads": None, "head_dim": None}
EXPERTS: dict[str, Any] = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2}

# family: what differs from SIZES (None: the config has no such key)
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Mistral": {"sliding_window": 4},
    "Qwen2": {},
    "Qwen3": {},
    "Gemma": {},
    "Gemma2": {"sliding_window": 4},
    "Gemma3Text": {"sliding_window": 4},
    "GPT2": NO_GROUPS,
    "GPTNeoX": NO_GROUPS,
    "GPTJ": NO_GROUPS | {"rotary_dim": 4},
    "OPT": NO_GROUPS | {"word_embed_proj_dim": 32, "ffn_dim": 48},
    "Phi": {"head_dim": None},
    "Phi3": {"head_dim": None},
    "Cohere": {"head_dim": None},
    "Falcon": NO_GROUPS | {"alibi": False},
    "StableLm": {"head_dim": None},
    "Olmo2": {"head_dim": None},
    "Granite": {"head_dim": None},
    "SmolLM3": {"head_dim": None},
    "Mixtral": EXPERTS,
    "Qwen3Moe": EXPERTS | {"moe_intermediate_size": 16},
    "GptOss": EXPERTS | {"sliding_window": 4},
    "Gemma4Text": {
        "sliding_window": 4,
        "vocab_size_per_layer_input": 265,
        "hidden_size_per_layer_input": 8,
        "global_head_dim": 8,
        "num_hidden_layers": 4,
        "num_kv_shared_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
}
# Not folded: what the blocks are given is made for the whole sequence. Read under eager attention too, because
# transformers' eager Falcon adds the position biases twice and its SDPA once.
ALIBI: dict[str, dict[str, Any]] = {"Bloom": NO_GROUPS, "Falcon": NO_GROUPS | {"alibi": True}}
# Only the fold is right: some blocks are recurrent or convolutional and know no mask.
LINEAR_HEADS: dict[str, Any] = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
RECURRENT: dict[str, dict[str, Any]] = {
    "Lfm2": {"head_dim": None, "layer_types": ["conv", "full_attention", "conv"]},
    "Qwen3Next": LINEAR_HEADS
    | {"layer_types": ["linear_attention", "full_attention", "linear_attention"], "num_experts": 0},
    "Qwen3_5Text": LINEAR_HEADS | {"layer_types": ["linear_attention", "full_attention", "linear_attention"]},
}


def build(family: str, changes: dict[str, Any], dtype: torch.dtype = torch.float64, **options: str) -> PreTrainedModel:
    """A random model, the same each time."""
    sizes = {key: value for key, value in (SIZES | changes).items() if value is not None}
    config = getattr(transformers, f"{family}Config")(**sizes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config, **options)
    return model.to(dtype).eval()


@torch.no_grad()
def reference_scores(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """conditional - unconditional of every block for one prompt, by explicit masks: ids (1, S) to (T, S, D).

    The unconditional output runs the block on the whole sequence, at the same positions, under a float mask that lets
    each token see itself only. The attention must be eager, so that the mask is what it says.
    """
    assert model.config.get_text_config()._attn_implementation == "eager"
    decoder = model.get_decoder()
    length = ids.shape[1]
    lists = [m for m in decoder.modules() if isinstance(m, torch.nn.ModuleList)]
    blocks = next(m for m in lists if len(m) == decoder.config.get_text_config().num_hidden_layers)
    calls: list[tuple[tuple[Any, ...], dict[str, Any], Any]] = []
    handles = [b.register_forward_hook(lambda m, a, k, o: calls.append((a, k, o)), with_kwargs=True) for b in blocks]
    decoder(input_ids=ids, use_cache=False)
    for handle in handles:
        handle.remove()
    diagonal = torch.full((1, 1, length, length), torch.finfo(model.dtype).min, dtype=model.dtype)
    diagonal[..., range(length), range(length)] = 0
    scores = []
    for block, (args, kwargs, output) in zip(blocks, calls, strict=True):
        names = list(inspect.signature(block.forward).parameters)
        named = dict(zip(names, args, strict=False)) | kwargs | {"attention_mask": diagonal}
        unconditional = block(**named)
        conditional = output if isinstance(output, Tensor) else output[0]
        scores.append(conditional[0] - (unconditional if isinstance(unconditional, Tensor) else unconditional[0])[0])
    return torch.stack(scores)


@torch.no_grad()
def recurrent_scores(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """conditional - unconditional of every block for one prompt, token by token: ids (1, S) to (T, S, D).

    The unconditional output is a pass of the whole decoder over one token whose hidden state is replaced before every
    block, at the token's own position. Right for any block, and as slow as S passes.
    """
    decoder = model.get_decoder()
    blocks = next(m for m in decoder.modules() if isinstance(m, torch.nn.ModuleList))
    inputs, outputs = run(decoder, blocks, {"input_ids": ids})
    scores = torch.stack(outputs)[:, 0]
    for position in range(ids.shape[1]):
        handles = [
            block.register_forward_pre_hook(lambda m, args, x=x[:, position : position + 1]: (x, *args[1:]))
            for block, x in zip(blocks, inputs, strict=True)
        ]
        single = {"input_ids": ids[:, :1], "position_ids": torch.tensor([[position]])}
        scores[:, position] -= torch.stack(run(decoder, blocks, single)[1])[:, 0, 0]
        for handle in handles:
            handle.remove()
    return scores


def run(decoder: PreTrainedModel, blocks: torch.nn.ModuleList, given: dict[str, Tensor]) -> tuple[list[Tensor], ...]:
    """The inputs and the outputs of all blocks in one pass."""
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def note(module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> None:
        inputs.append(args[0])
        outputs.append(output if isinstance(output, Tensor) else output[0])

    handles = [block.register_forward_hook(note) for block in blocks]
    decoder(**given, use_cache=False)
    for handle in handles:
        handle.remove()
    return inputs, outputs
